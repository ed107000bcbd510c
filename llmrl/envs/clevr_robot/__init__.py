"""CLEVR-Robot (KALM): a pusher moves five coloured balls until they lie as a goal wants them.

With gymnasium and llmrl imported: gym.make("llmrl/ClevrRobot-v0", goals="base"); conf/env/clevr_robot/ has the options
and their values.
An env_step is one push of 0.4 s. Source: docs/papers/kalm.md, after Google's clevr_robot_env.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.contracts.env import Role
from llmrl.envs.clevr_robot import goals, language
from llmrl.envs.clevr_robot.batch import Scenes
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.episode import begin, observed, size
from llmrl.envs.clevr_robot.model import ACTIONS
from llmrl.envs.clevr_robot.side_by_side import SideBySide  # noqa: F401 (evaluations take it)
from llmrl.envs.clevr_robot.start import sample_xy
from llmrl.envs.mujoco import try_to_draw

# The four tiers of evaluation. A rephrased goal is a base goal in other words, which matter with env.language alone.
EVALUATION_SETS: dict[str, goals.Tier] = {"base": "base", "rephrase": "base", "easy": "easy", "hard": "hard"}


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Training and evaluation are alike. Raises ConfigError where MuJoCo is missing or it cannot render."""
    env = ClevrRobot(config, render_mode="rgb_array" if render else None)
    if render:
        try_to_draw(env)
    return env


def case_options(config: Config, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """What reset gets for a case of a tier in EVALUATION_SETS: its goal and where the balls start, drawn from `rng`;
    where goals are in words, one of the tier's sentences and what it means."""
    if config.language is None:
        return {"goal": goals.draw(EVALUATION_SETS[name], rng), "positions": sample_xy(rng)}
    told = language.worded(name)
    case = int(rng.integers(len(told.texts)))
    return {"goal": told.goals[case], "sentence": told.texts[case], "positions": sample_xy(rng)}


class ClevrRobot(gym.Env):
    """One scene. The goal is in the infos; in the observation it is with config.language alone, as its sentence's
    encoding, behind what is seen of the balls.

    reset takes options: positions (5, 2) in m, state (69,) in place of both positions and velocities, goal (a vector of
    goals.py, of any tier) and sentence (which says the goal, where no other is given). infos hold goal, sentence if
    there is one, state (the full one, from which the next step follows exactly), and success, which a reset does not
    judge: False there, so that infos always have the same keys, as Minari's recorder wants it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 3}

    def __init__(self, config: Config, *, render_mode: str | None = None) -> None:
        self.config, self.render_mode = config, render_mode
        self.action_space = gym.spaces.Discrete(ACTIONS)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size(config),), np.float32)
        self._scenes = Scenes(config)
        self._renderer: Any = None  # made when first drawn

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray, dict]:
        super().reset(seed=seed)
        episode = begin(self.config, self.np_random, options)
        self._sentence = episode.sentence
        self._steps = 0
        seen = self._scenes.reset(episode.goal[None], episode.state[None], believed_xy=episode.believed_xy[None])
        return self._seen(seen), self._info(success=False)

    def step(self, action: int) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ConfigError(f"actions are 0 to {ACTIONS - 1}, not {action}")
        seen, reward, terminated, info = self._scenes.step(np.array([action]))
        self._steps += 1
        over = bool(terminated[0])
        truncated = not over and self._steps >= self.config.max_episode_steps
        return self._seen(seen), float(reward[0]), over, truncated, self._info(success=bool(info["success"][0]))

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode != "rgb_array":
            return None
        if self._renderer is None:
            from llmrl.envs.clevr_robot.renderer import Renderer

            self._renderer = Renderer()
        return self._renderer.render(self._scenes.states[0])

    def _seen(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        return observed(self.config, seen, [self._sentence])[0]

    def _info(self, *, success: bool) -> dict[str, Any]:
        told = {} if self._sentence is None else {"sentence": self._sentence}
        facts = {"goal": self._scenes.goals[0].copy(), "state": self._scenes.states[0].copy(), "success": success}
        return facts | told
