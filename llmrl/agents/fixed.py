"""No learning: actions come from a fixed distribution, blind to the observation. A control for what learning brings."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Generator, Tensor

from llmrl.agents.configs import FixedConfig as Config
from llmrl.checks import ConfigError
from llmrl.contracts.agent import Agent
from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, ReplayBuffer, Ring, Step
from llmrl.explore.epsilon_greedy import EpsilonGreedy, linear


class Fixed(Agent):
    """pi(a | s) = p(a), the same when it trains and when it is evaluated."""

    actions = "discrete"
    action_space: spaces.Discrete

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        n = int(self.action_space.n)
        p = config.probabilities or (1 / n,) * n
        if len(p) != n:
            raise ConfigError(f"agent.probabilities: {len(p)} numbers, but the task has {n} actions: give {n}")
        self.p = torch.tensor(p, dtype=torch.float64)

    def act(self, obs: Any, *, explore: bool, gen: Generator) -> NDArray:
        """a ~ p(a), one for each environment."""
        rows = next(iter(obs.values())) if isinstance(obs, dict) else obs
        return torch.multinomial(self.p, len(rows), replacement=True, generator=gen).numpy()

    def update(self, batch: Batch) -> Mapping[str, Tensor]:
        raise TypeError("agent=fixed learns nothing: its replay buffer asks for no updates")

    def replay_buffer(self) -> "NoReplay":
        return NoReplay()

    def explorer(self) -> EpsilonGreedy:
        """Epsilon 0: what it does is its own distribution alone."""
        return EpsilonGreedy(len(self.p), epsilon=linear(0.0, 0.0, 1))

    def state_dict(self) -> dict:
        return {"p": self.p}

    def load_state_dict(self, state: dict) -> None:
        self.p = state["p"]


AGENT = Fixed


class NoReplay(ReplayBuffer):
    """A replay buffer that keeps nothing, for no updates."""

    def add(self, step: Step) -> None: ...

    def num_updates(self, clock: Clock) -> int:
        return 0

    def batches(self, n: int, rng: np.random.Generator, agent: Agent) -> Iterator[Batch]:
        return iter(())

    def after(self, batch: Batch, out: Mapping[str, Tensor]) -> None: ...

    def rings(self) -> dict[str, Ring]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None: ...
