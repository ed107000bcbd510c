"""The Explorer contract: what an action becomes before it reaches the environment, warm-up included."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Policy = Callable[[], NDArray]  # () -> (n_envs, *action); a forward pass, so call it only where the action is used


@dataclass
class Clock:
    """Where training stands. Every counter carries its unit."""

    env_steps: int = 0  # agent decisions, summed over environments
    updates: int = 0  # gradient updates of the agent
    episodes: int = 0  # episodes that have ended


@dataclass(frozen=True)
class EpisodeSummary:
    """An episode that has ended: what a method may tell an LLM of it."""

    number: int  # 0, 1, 2, … in the order in which episodes were started
    episode_return: float  # undiscounted sum of the environment's own reward: unclipped, untransformed
    length: int  # env_steps
    actions: NDArray  # (length, *action): the actions that were executed


class Explorer(ABC):
    """Turns the agent's policy into behaviour. It never learns from batches; that is the agent's part."""

    # what others may set to shape its exploration: `distribution` (n_actions,), weights of the random action, or
    # `bias` (*action), the mean of the noise in environment units; None where nothing can be
    shaped_by: ClassVar[Literal["distribution", "bias"] | None] = None

    @property
    def explores(self) -> bool:
        """Whether it ever does anything but what the policy says, after a warm-up."""
        return False

    def on_episode_start(self, clock: Clock, number: int, last: EpisodeSummary | None) -> None:
        """Called before episode `number` starts; `last` is the episode that ended last, None before the first end.

        All or nothing: it may be interrupted (an LLM is asked here), and then nothing of its state has changed.
        """
        return None

    @abstractmethod
    def propose(
        self, obs: Any, policy: Policy, clock: Clock, info: Sequence[dict[str, Any]], rng: np.random.Generator
    ) -> NDArray:
        """The actions (n_envs, *action) to execute. Draws the same number of random numbers at every call."""

    def metrics(self) -> dict[str, float]:
        """Numbers worth logging now, such as the current epsilon."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that changes between two calls."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        return None
