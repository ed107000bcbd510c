"""Gaussian noise on continuous actions, as DDPG and TD3 explore; centred on zero unless a bias is set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock, Explorer, Policy


class Gaussian(Explorer):
    """a = clip(policy(s) + bias + N(0, sigma), low, high), after a warm-up of uniformly random actions."""

    shaped_by = "bias"

    def __init__(self, action_space: spaces.Box, *, sigma: NDArray | float, random_steps: int = 0) -> None:
        """`sigma`: standard deviation in environment units, a number or (action,); `random_steps`: env_steps."""
        self.low, self.high = action_space.low, action_space.high
        self.sigma = sigma
        self.random_steps = random_steps
        self.bias: NDArray | None = None  # (*action) in environment units, None = zero; others may set it

    @property
    def explores(self) -> bool:
        """Whether there is any noise, after the warm-up."""
        return bool(np.any(self.sigma))

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        """Actions (n_envs, *action), float32. Draws n_envs * (action + action) numbers at every call."""
        shape = (len(info), *self.low.shape)
        uniform, noise = rng.random(shape), rng.standard_normal(shape)
        if clock.env_steps < self.random_steps:
            action = self.low + uniform * (self.high - self.low)
        else:
            action = policy() + self.sigma * noise
            if self.bias is not None:
                action += self.bias
        return np.clip(action, self.low, self.high).astype(np.float32)

    def state_dict(self) -> dict:
        return {"bias": self.bias}

    def load_state_dict(self, state: dict) -> None:
        self.bias = state["bias"]
