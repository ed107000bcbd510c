"""Gymnasium-Robotics: AntMaze, Fetch and Adroit, with flat observations and the success rules of LESR beside its own.

Every step's info holds `success_authors` (the rule of LESR's authors) and `success_official` (the package's own).
docs/environments.md says which versions these are, and what differs from the paper's.
"""

import io
import math
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError, Count, Positive
from llmrl.contracts.env import Role, Task
from llmrl.envs.base import make_gymnasium, require
from llmrl.envs.mujoco import choose_renderer, try_to_draw


@dataclass(frozen=True)
class Config:
    suite: str
    id: str
    max_episode_steps: Count
    ends: Literal["authors", "package"]
    goal_obs: Literal["authors", "with_achieved"]
    success_below: Positive | None
    success_above: Positive | None
    task: Task

    @property
    def frames_per_step(self) -> int:
        return 1


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """In evaluation `ends: authors` ends an episode with its first success; in training the environment alone ends one.

    Raises ConfigError where the package is missing, has no such task, or it cannot render.
    """
    with redirect_stderr(io.StringIO()):  # the package's note on Adroit's version; docs/environments.md has it
        require("gymnasium_robotics", "llmrl[robotics]", f"env.id={config.id}")
    if render:
        choose_renderer()
    maze = config.id.startswith("AntMaze")
    options = {"continuing_task": config.ends == "package", "reset_target": False} if maze else {}
    try:
        env = make_gymnasium(config.id, max_episode_steps=config.max_episode_steps, render=render, **options)
    except gym.error.Error as error:
        raise ConfigError(f"env.id: {error}") from error
    task: Any = env.unwrapped
    if maze:
        Path(task.tmp_xml_file_path).unlink(missing_ok=True)  # the maze's model was loaded; the package keeps it
    if config.id.startswith("Fetch"):
        _read_only_the_fingers(task)
    env = GoalTask(env, config, role)
    if render:
        try_to_draw(env)
    return env


class GoalTask(gym.Wrapper):
    """Observations as one array, both success rules in the infos, and the end that `config.ends` asks for."""

    def __init__(self, env: gym.Env, config: Config, role: Role) -> None:
        super().__init__(env)
        self._below, self._above = config.success_below, config.success_above
        # LESR's trainer tests for success in evaluation alone: while it learns, an agent can go on collecting reward.
        self._ends_with_success = config.ends == "authors" and role == "eval"
        self._keys = ["observation", "desired_goal"] + ["achieved_goal"] * (config.goal_obs == "with_achieved")
        space = env.observation_space
        self._parts = isinstance(space, gym.spaces.Dict)
        if isinstance(space, gym.spaces.Dict):
            size = sum(math.prod(space[key].shape or ()) for key in self._keys)
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[NDArray, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._flat(obs), info

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        info["success_official"] = bool(info["is_success"] if "is_success" in info else info["success"])
        info["success_authors"] = self._authors_say(abs(float(reward)), info)
        if self._ends_with_success:
            terminated = terminated or info["success_authors"]
        return self._flat(obs), float(reward), terminated, truncated, info

    def _authors_say(self, size: float, info: dict[str, Any]) -> bool:
        """The rule in the authors' trainer: it reads the absolute reward; in the mazes their end is the package's."""
        if self._below is not None:
            return bool(size < self._below)
        if self._above is not None:
            return bool(size > self._above)
        return info["success_official"]

    def _flat(self, obs: Any) -> NDArray:
        return np.concatenate([obs[key] for key in self._keys]) if self._parts else obs


def _read_only_the_fingers(fetch: Any) -> None:
    """The package looks up all 15 joints of the robot by name and keeps the last two. Asking for these two alone gives
    the same numbers in less time."""
    names = fetch._model_names
    names._joint_names = tuple(name for name in names.joint_names if name.startswith("robot"))[-2:]
