"""What has happened in an episode so far, for agents that act by it (agent=decision_transformer)."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError


class History:
    """The last `context` env_steps of n episodes side by side, each from left to right and padded with zeros behind.

    `seen()` is the observation of an agent with history: {"state": (n, context, d), "action": (n, context), of which
    the current one is not known yet, "earned": (n, context): the rewards before each step, "length": (n,)}.
    """

    def __init__(self, obs: NDArray, context: int) -> None:
        """`obs` (n, d): what the episodes begin with."""
        n = len(obs)
        self.state = np.zeros((n, context, obs.shape[1]), np.float32)
        self.action = np.zeros((n, context), np.int64)
        self.earned = np.zeros((n, context), np.float32)
        self.length = np.ones(n, np.int64)
        self._total = np.zeros(n)
        self.state[:, 0] = obs

    def add(self, action: NDArray, reward: NDArray, obs: NDArray) -> None:
        """A step of all n: what was done (n,), what it earned (n,) and what it led to (n, d)."""
        rows = np.arange(len(self.length))
        self.action[rows, self.length - 1] = action
        self._total += reward
        full = self.length == self.state.shape[1]
        for column in (self.state, self.action, self.earned):
            column[full, :-1] = column[full, 1:]
        self.length[~full] += 1
        at = self.length - 1
        self.state[rows, at], self.action[rows, at], self.earned[rows, at] = obs, 0, self._total

    def keep(self, playing: NDArray) -> None:
        """Forgets the episodes that are not under the mask (n,)."""
        for name in ("state", "action", "earned", "length", "_total"):
            setattr(self, name, getattr(self, name)[playing])

    def seen(self) -> dict[str, NDArray]:
        return {name: getattr(self, name).copy() for name in ("state", "action", "earned", "length")}


class WithHistory(gym.Wrapper):
    """An environment of vector observations and discrete actions that shows its History."""

    def __init__(self, env: gym.Env, context: int) -> None:
        """Raises ConfigError where actions or observations are of another kind."""
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ConfigError(f"A history holds discrete actions, this task has {env.action_space}: use another agent")
        seen = env.observation_space
        parts = list(seen.values()) if isinstance(seen, gym.spaces.Dict) else [seen]
        boxes = [part for part in parts if isinstance(part, gym.spaces.Box)]
        if len(boxes) < len(parts):
            raise ConfigError(f"A history holds vectors, this task shows {seen}: use another agent")
        self._context = context
        size = sum(int(np.prod(box.shape)) for box in boxes)
        self.observation_space = gym.spaces.Dict(
            state=gym.spaces.Box(-np.inf, np.inf, (context, size), np.float32),
            action=gym.spaces.Box(0, env.action_space.n - 1, (context,), np.int64),
            earned=gym.spaces.Box(-np.inf, np.inf, (context,), np.float32),
            length=gym.spaces.Box(1, context, (), np.int64),
        )

    def reset(self, **kwargs: Any) -> tuple[dict[str, NDArray], dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        self._history = History(self._flat(obs), self._context)
        return self._seen(), info

    def step(self, action: Any) -> tuple[dict[str, NDArray], SupportsFloat, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._history.add(np.array([action]), np.array([reward]), self._flat(obs))
        return self._seen(), reward, terminated, truncated, info

    def _flat(self, obs: Any) -> NDArray:
        """(1, d), the parts of a dict by sorted key."""
        parts = [obs[key] for key in sorted(obs)] if isinstance(obs, dict) else [obs]
        return np.concatenate([np.ravel(part) for part in parts])[None]

    def _seen(self) -> dict[str, NDArray]:
        return {name: part[0] for name, part in self._history.seen().items()}
