"""Classic control: small tasks of gymnasium, for tests and teaching."""

from dataclasses import dataclass

import gymnasium as gym

from llmrl.checks import ConfigError, Count
from llmrl.contracts.env import Role, Task
from llmrl.envs.base import make_gymnasium, require


@dataclass(frozen=True)
class Config:
    suite: str
    id: str
    max_episode_steps: Count
    task: Task

    @property
    def frames_per_step(self) -> int:
        return 1


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Training and evaluation are alike. Raises ConfigError where gymnasium has no such task or cannot draw it."""
    if render:
        require("pygame", "pygame", "Drawing classic control")
    try:
        return make_gymnasium(config.id, max_episode_steps=config.max_episode_steps, render=render)
    except gym.error.Error as error:
        raise ConfigError(f"env.id: {error}") from error
