"""Two tasks of our own for Walker2d's body: jump in place, and stand with the legs apart.

The LESR paper shows both as figures, and its weights, its ends and whether the walker's own reward stayed on are
unknown. So the reward below is our choice; body, start, state and end are Walker2d's.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import NonNegative
from llmrl.contracts.env import Role
from llmrl.envs import mujoco

STANDING = 1.25  # metres: the height of the torso when the walker stands upright


@dataclass(frozen=True)
class Config(mujoco.Config):
    aim: Literal["jump", "split"]
    aim_weight: NonNegative
    lean_weight: NonNegative
    drift_weight: NonNegative
    effort_weight: NonNegative


def make(config: Config, role: Role, *, render: bool = False) -> gym.Env:
    """Training and evaluation are alike. Raises ConfigError as llmrl.envs.mujoco does."""
    return OwnReward(mujoco.make(config, role, render=render), config)


class OwnReward(gym.Wrapper):
    """r = 1 while upright + w_aim * aim - w_lean |angle of the torso| - w_drift |vx| - w_effort |a|^2"""

    def __init__(self, env: gym.Env, config: Config) -> None:
        super().__init__(env)
        self._config = config
        self._walker: Any = env.unwrapped

    def step(self, action: NDArray) -> tuple[NDArray, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = self.env.step(action)
        weights = self._config
        reward = (
            float(not terminated)
            + weights.aim_weight * self._aim()
            - weights.lean_weight * abs(self._walker.data.qpos[2])
            - weights.drift_weight * abs(info["x_velocity"])
            - weights.effort_weight * np.square(action).sum()
        )
        return obs, float(reward), terminated, truncated, info

    def _aim(self) -> float:
        """Metres: what the torso has risen above standing, or the horizontal distance between the feet."""
        data = self._walker.data
        if self._config.aim == "jump":
            return data.qpos[1] - STANDING
        return abs(data.body("foot").xpos[0] - data.body("foot_left").xpos[0])
