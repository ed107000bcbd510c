"""Picking and placing letters (ExploRLLM): one Gymnasium environment over a computed or a simulated table.

With gymnasium and llmrl imported: gym.make("llmrl/PickPlace-v0", mode="analytic", horizon="short");
conf/env/pick_place/ has the options and their values.
An env_step is one primitive, pick or place. Source: explorllm.md; docs/papers/explorllm.md says what was settled how.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.core import RenderFrame
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, NonNegative, Positive
from llmrl.contracts.env import Role, Task
from llmrl.envs.pick_place import actions, letters, observe, scene, task
from llmrl.envs.pick_place.analytic import AnalyticWorld
from llmrl.envs.pick_place.detect import ColourSegments, NoisyTruth
from llmrl.envs.pick_place.scene import Scene, sample_scene
from llmrl.envs.pick_place.world import World

Sets = Literal["seen", "unseen"]
# by name: reset's options; unseen letters come in unseen colours, as with the authors
EVALUATION_SETS = {
    "seen": {}, "unseen_colours": {"colours": "unseen"}, "unseen_letters": {"letters": "unseen", "colours": "unseen"},
    "other_crops": {"crops": "other"},
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    suite: str
    mode: Literal["analytic", "physics"]
    horizon: Literal["short", "long"]
    letters: tuple[str, ...]
    unseen_letters: tuple[str, ...]
    letter_scale: Positive
    colours: tuple[str, ...]
    unseen_colours: tuple[str, ...]
    actions: actions.Actions
    residual_px: Positive
    observation: Literal["crops", "image"]
    detector: Literal["truth", "colour"]
    position_noise_px: NonNegative
    max_primitives: Count
    timeout: Literal["terminal", "truncation"]
    phase: Literal["soft", "hard"]
    neglect_px: Positive | None
    drop_scatter_mm: NonNegative
    task: Task

    def __post_init__(self) -> None:
        for key, check, kind in (("letters", letters.check, "shapes"), ("colours", scene.check_colour, "colours")):
            for name in (key, f"unseen_{key}"):
                values = getattr(self, name)
                if len(values) < 3:
                    raise ValueError(f"{name}: names {len(values)} {kind}, it takes 3 or more")
                try:
                    for value in values:
                        check(value)
                except ConfigError as error:
                    raise ValueError(f"{name}: {error}") from None
        if self.horizon == "long":
            for name in ("colours", "unseen_colours"):
                if len(set(getattr(self, name))) < len(getattr(self, name)):
                    raise ValueError(f"{name}: names a colour twice; in the long horizon each letter has its own bowl")

    @property
    def frames_per_step(self) -> int:
        return 1


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Hopeless actions are left out of training alone (`neglect_px`); what holds for evaluation is whole."""
    return PickPlace(config, role=role, render_mode="rgb_array_list" if render else None)


def case_options(config: Config, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """reset's options for a case of one of EVALUATION_SETS."""
    return EVALUATION_SETS[name]


def make_world(config: Config, *, film: bool) -> World:
    """The table of `config.mode`. Raises ConfigError where physics cannot draw."""
    if config.mode == "analytic":
        return AnalyticWorld(config.drop_scatter_mm)
    from llmrl.envs.pick_place.physics import PhysicsWorld

    return PhysicsWorld(film=film)


class PickPlace(gym.Env):
    """The task of `config`. reset takes options: letters and colours ("seen" or "unseen"), scene (a Scene, in place of
    a drawn one), goal (slot to pick, bowl 0-2; short horizon), crops ("own", or "other": those that another scene
    begins with, all episode long, a control for policies that do not look). infos hold "truth": what no agent sees."""

    metadata = {"render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 2}

    def __init__(self, config: Config, *, role: Role = "eval", render_mode: str | None = None) -> None:
        self.config, self.render_mode = config, render_mode
        image = config.observation == "image"
        self.action_space = actions.space(config.actions)
        self.observation_space = observe.space(image=image, goal=config.horizon == "short")
        self.world = make_world(config, film=render_mode == "rgb_array_list")
        if render_mode == "rgb_array_list" and config.mode == "physics":
            self.metadata = self.metadata | {"render_fps": 25}
        detector = NoisyTruth(config.position_noise_px) if config.detector == "truth" else ColourSegments()
        self._observer = observe.Observer(self.world, detector, image=image)
        self._neglect = config.neglect_px if role == "train" else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict[str, Any]]:
        super().reset(seed=seed)
        self.scene = self._choose(options or {})
        self.world.reset(self.scene, self.np_random)
        self._observer.reset(self.scene, self.np_random)
        self._primitives = 0
        self._shown = self._other_crops(options or {}, seed)
        return self._observation(), {"truth": self._truth()}

    def step(self, action: NDArray) -> tuple[dict, float, bool, bool, dict[str, Any]]:
        config, world = self.config, self.world
        p, *target = actions.decode(config.actions, action, self._observer.position, config.residual_px)
        place, holding = p > 0.5, world.held >= 0
        before = world.position.tolist()

        skipped = self._neglect is not None and task.hopeless(
            place, holding, target, self._observer.position, self._neglect
        )
        picked = -1
        if not skipped:
            if place:
                world.place(*target)
            else:
                self._observer.before_pick(*target)
                picked = world.pick(*target)
            self._observer.after_step(picked)

        reward, success = task.judge(
            self.scene, before, world.position.tolist(), world.z.tolist(),
            p=p, target=target, holding=holding, picked=picked >= 0, phase=config.phase,
        )  # fmt: skip
        self._primitives += 1
        late = self._primitives >= config.max_primitives and not success
        info = {"picked": picked >= 0, "skipped": skipped, "success": success, "target": tuple(target)}
        info["truth"] = self._truth()
        terminated = success or (late and config.timeout == "terminal")
        return self._observation(), reward, terminated, late and config.timeout == "truncation", info

    def render(self) -> RenderFrame | list[RenderFrame] | None:
        """A rendering, or with "rgb_array_list" all since the last call: in physics mode, those of the motions too."""
        if self.render_mode == "rgb_array_list":
            frames, self.world.frames = self.world.frames, []
            return [*frames, self.world.render()]
        return self.world.render() if self.render_mode == "rgb_array" else None

    def goal_sentence(self) -> str:
        """The episode's goal in words, by a template."""
        return task.goal_sentence(self.scene)

    def _observation(self) -> dict[str, NDArray]:
        return self._observer.observation() | self._shown

    def _other_crops(self, options: dict[str, Any], seed: int | None) -> dict[str, NDArray]:
        """What the option crops shows in place of the true images."""
        which = options.get("crops", "own")
        if which not in ("own", "other"):
            raise ConfigError(f'the option crops is "own" or "other", not {which!r}')
        if which == "own":
            return {}
        other, _ = self._other_table.reset(seed=10**6 + (seed or 0) % 10**6)
        return {key: other[key] for key in ("rgb", "height")}

    @cached_property
    def _other_table(self) -> "PickPlace":
        return PickPlace(self.config)

    def _choose(self, options: dict[str, Any]) -> Scene:
        """The scene that reset's options ask for. Raises ConfigError for options that there are not."""
        if unknown := set(options) - {"letters", "colours", "scene", "goal", "crops"}:
            raise ConfigError(f"reset takes the options letters, colours, scene, goal and crops, not {sorted(unknown)}")
        chosen = options.get("scene")
        if chosen is None:
            chosen = sample_scene(
                self.np_random,
                horizon=self.config.horizon,
                letters=self._set("letters", options),
                colours=self._set("colours", options),
                scale=self.config.letter_scale,
            )
        if (chosen.goal is None) != (self.config.horizon == "long"):
            raise ConfigError(f"the option scene has the goal {chosen.goal}; env.horizon is {self.config.horizon}")
        if (goal := options.get("goal")) is None:
            return chosen
        goal = tuple(goal)
        if self.config.horizon == "long" or len(goal) != 2 or not set(goal) <= {0, 1, 2}:
            raise ConfigError(f"the option goal is (slot to pick, bowl), both 0-2, of a short horizon, not {goal}")
        return replace(chosen, goal=(int(goal[0]), int(goal[1])))

    def _set(self, key: str, options: dict[str, Any]) -> tuple[str, ...]:
        name = options.get(key, "seen")
        if name not in ("seen", "unseen"):
            raise ConfigError(f'the option {key} is "seen" or "unseen", not {name!r}')
        return getattr(self.config, key if name == "seen" else f"unseen_{key}")

    def _truth(self) -> dict[str, Any]:
        """All that is true of the table: positions in pixels, heights z of middles in metres, by slot."""
        world, start = self.world, self.scene
        return {
            "position": world.position.copy(), "yaw": world.yaw.copy(), "z": world.z.copy(), "held": world.held,
            "letters": start.letters, "colours": start.colours, "scale": start.scale, "goal": start.goal,
        }  # fmt: skip
