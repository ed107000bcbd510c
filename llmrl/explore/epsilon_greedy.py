"""Epsilon-greedy exploration for discrete actions; what it explores with is uniform unless a distribution is set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock, Explorer, Policy

Schedule = Callable[[int], float]  # env_steps -> epsilon


def linear(start: float, end: float, over_env_steps: float) -> Schedule:
    """From `start` to `end` in a straight line, then constant."""
    return lambda env_steps: start + (end - start) * min(1.0, env_steps / max(over_env_steps, 1))


def exponential(start: float, end: float, decay: float) -> Schedule:
    """`start * decay ** env_steps`, never below `end`."""
    return lambda env_steps: max(end, start * decay**env_steps)


class EpsilonGreedy(Explorer):
    """With probability epsilon an action drawn from `distribution`, else the policy's."""

    shaped_by = "distribution"

    def __init__(self, n_actions: int, *, epsilon: Schedule, random_steps: int = 0) -> None:
        """`random_steps`: env_steps of warm-up, during which epsilon is 1."""
        self.n_actions = n_actions
        self.schedule = epsilon
        self.random_steps = random_steps
        self.distribution: NDArray | None = None  # (n_actions,) weights, None = uniform; others may set it
        self.epsilon = 1.0  # the last one used

    @property
    def explores(self) -> bool:
        """Whether it ever does anything but what the policy says, after the warm-up."""
        return self.schedule(self.random_steps) > 0 or self.schedule(2**62) > 0

    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict], rng: np.random.Generator
    ) -> NDArray:
        """Actions (n_envs,), int64. Draws 2 * n_envs numbers at every call."""
        gate, draw = rng.random((2, len(info)))
        self.epsilon = 1.0 if clock.env_steps < self.random_steps else self.schedule(clock.env_steps)
        explores = gate < self.epsilon
        if not explores.any():
            return policy()
        if self.distribution is None:
            random = (draw * self.n_actions).astype(np.int64)
        else:  # inverse of the cumulative distribution
            cumulative = np.cumsum(self.distribution)
            random = np.searchsorted(cumulative, draw * cumulative[-1], side="right")
        return random if explores.all() else np.where(explores, random, policy())

    def metrics(self) -> dict[str, float]:
        return {"epsilon": self.epsilon}

    def state_dict(self) -> dict:
        return {"distribution": self.distribution, "epsilon": self.epsilon}

    def load_state_dict(self, state: dict) -> None:
        self.distribution, self.epsilon = state["distribution"], state["epsilon"]
