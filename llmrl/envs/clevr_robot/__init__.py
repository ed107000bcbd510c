"""CLEVR-Robot (KALM): a pusher moves five coloured balls until they lie as a goal wants them.

With gymnasium and llmrl imported: gym.make("llmrl/ClevrRobot-v0", goals="base"); conf/env/clevr_robot/ has the options
and their values.
An env_step is one push of 0.4 s. Source: kalm.md, sections 2, 3 and 13, after Google's clevr_robot_env.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.base import Role
from llmrl.envs.clevr_robot import goals
from llmrl.envs.clevr_robot.batch import Scenes
from llmrl.envs.clevr_robot.config import Config
from llmrl.envs.clevr_robot.model import ACTIONS, BALLS, STATE, at_rest, xy_of
from llmrl.envs.clevr_robot.start import sample_xy
from llmrl.envs.mujoco import try_to_draw

# The four tiers of evaluation. A rephrased goal is a base goal in other words, which are not the environment's.
SUITES = {"base": "base", "rephrase": "base", "easy": "easy", "hard": "hard"}


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Training and evaluation are alike. Raises ConfigError where MuJoCo is missing or pictures cannot be drawn."""
    env = ClevrRobot(config, render_mode="rgb_array" if render else None)
    if render:
        try_to_draw(env)
    return env


def case_options(config: Config, name: str, rng: np.random.Generator) -> dict[str, Any]:
    """What reset gets for a case of a tier in SUITES: its goal and where the balls start, drawn from `rng`."""
    return {"goal": goals.draw(SUITES[name], rng), "positions": sample_xy(rng)}


class ClevrRobot(gym.Env):
    """One scene. The goal is in the infos, not in the observation: a policy reads it as text.

    reset takes options: positions (5, 2) in m, state (69,) in place of both positions and velocities, and goal (a
    vector of goals.py, of any tier). infos hold goal, state (the full one, from which the next step follows exactly),
    and after a step success.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 3}

    def __init__(self, config: Config, *, render_mode: str | None = None) -> None:
        self.config, self.render_mode = config, render_mode
        self.action_space = gym.spaces.Discrete(ACTIONS)
        size = 4 * BALLS if config.obs_velocity else 2 * BALLS
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._scenes = Scenes(config)
        self._picture: Any = None  # made when first drawn

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray, dict]:
        super().reset(seed=seed)
        state, goal = _checked(options or {})
        drawn = sample_xy(self.np_random)
        # the authors' evaluator sets a scene up and forgets to tell the first push, which starts where balls were drawn
        stale = drawn[None] if self.config.stale_first_push and state is not None else None
        if state is None:
            state = at_rest(drawn)
        if goal is None:
            goal = goals.draw(self.config.goals, self.np_random, xy_of(state))
        self._steps = 0
        return self._scenes.reset(goal[None], state[None], believed_xy=stale)[0], self._info()

    def step(self, action: int) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, info = self._scenes.step(np.array([action]))
        self._steps += 1
        over = bool(terminated[0])
        truncated = not over and self._steps >= self.config.max_episode_steps
        return obs[0], float(reward[0]), over, truncated, self._info() | {"success": bool(info["success"][0])}

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode != "rgb_array":
            return None
        if self._picture is None:
            from llmrl.envs.clevr_robot.picture import Picture

            self._picture = Picture()
        return self._picture.of(self._scenes.states[0])

    def _info(self) -> dict[str, Any]:
        return {"goal": self._scenes.goals[0].copy(), "state": self._scenes.states[0].copy()}


def _checked(options: dict[str, Any]) -> tuple[NDArray | None, NDArray | None]:
    """(full state, goal) of reset's options, None where not given. Raises ConfigError for what cannot be."""
    if unknown := set(options) - {"positions", "state", "goal"}:
        raise ConfigError(f"reset takes the options positions, state and goal, not {sorted(unknown)}")
    if {"positions", "state"} <= set(options):
        raise ConfigError("reset takes the option positions or state, not both: a state holds the positions")
    state = None
    for key, shape in (("positions", (BALLS, 2)), ("state", (STATE,))):
        if key in options:
            value = np.asarray(options[key], np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise ConfigError(f"the option {key} is an array {shape} of finite numbers, not {options[key]!r}")
            state = at_rest(value) if key == "positions" else value
    goal = None if "goal" not in options else np.asarray(options["goal"], np.int64)
    return state, goal
