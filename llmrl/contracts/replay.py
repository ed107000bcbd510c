"""The ReplayBuffer contract: uniform, prioritised, n-step and on-policy replay, behind one training loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock

if TYPE_CHECKING:  # report/ and the explorers import this file; torch comes only with the agents
    from torch import Tensor

    from llmrl.contracts.agent import Agent


class Step(NamedTuple):
    """One step of n environments, as the loop saw it."""

    obs: Any  # (n_envs, *obs) array, or a dict of such arrays
    action: NDArray  # (n_envs, *action), as the explorer gave them; the environment may get them clipped
    reward: NDArray  # (n_envs,) float32, the reward to learn from (may be clipped or shaped)
    next_obs: Any  # like obs: what the step led to, also where the episode ended
    terminated: NDArray  # (n_envs,) bool: no bootstrapping beyond this step (a lost life, where the task says so)
    last: NDArray  # (n_envs,) bool: the environment will be reset after this step


class Batch(NamedTuple):
    """What an update learns from. Leaves are tensors on the agent's device; obs and next_obs may be dicts of them."""

    obs: Any  # (batch, *obs)
    action: "Tensor"  # (batch, *action); int64 (batch,) for discrete actions
    reward: "Tensor"  # (batch,) summed over the n steps of an n-step replay buffer
    next_obs: Any  # (batch, *obs)
    terminated: "Tensor"  # (batch,) float32 0 or 1
    discount: "Tensor | float"  # gamma^k of the bootstrap value; one number where it is the same for all rows
    weight: "Tensor | None" = None  # (batch,) importance weights, None where uniform
    last: "Tensor | None" = None  # (batch,) terminated or truncated; it and the next three are on-policy replay's alone
    log_prob: "Tensor | None" = None  # (batch,) log pi(a | s) of the policy that acted
    advantage: "Tensor | None" = None  # (batch,) estimate of Q(s, a) - V(s)
    value_target: "Tensor | None" = None  # (batch,) what V(s) shall become
    places: NDArray | None = None  # (batch,) of the rows, for a replay buffer that takes something back in `after`


class Ring(Protocol):
    """Rows that only ever get appended (and the oldest evicted); checkpoints store them as immutable chunks."""

    total: int  # rows ever appended; row numbers are 0 … total-1
    capacity: int

    def rows(self, start: int, stop: int) -> dict[str, NDArray]:
        """Rows `start` to `stop`, all of them still in the ring."""

    def load(self, start: int, rows: dict[str, NDArray]) -> None:
        """Put back rows that `rows` returned, the oldest chunk first."""


class ReplayBuffer(ABC):
    """What an agent learns from while it acts: what the loop saw goes in, batches come out."""

    @abstractmethod
    def add(self, step: Step) -> None:
        """Stores a step of every environment. Copies what it keeps."""

    @abstractmethod
    def num_updates(self, clock: Clock) -> int:
        """Updates to run now, counted from the clock alone (1/32, 1 or 10 a step)."""

    @abstractmethod
    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        """`n` batches, on the agent's device."""

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """What an update gave back for the batch, such as new priorities."""
        return None

    @abstractmethod
    def rings(self) -> Mapping[str, Ring]:
        """The rows, for checkpoints; all else that changes is in `state_dict`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What changes and is not in the rings."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned, after the rings are loaded."""


class Rows(ReplayBuffer):
    """A replay buffer whose transitions have places 0 … places-1: what n-step and prioritised replay build on."""

    places: int  # transitions that it has room for

    @abstractmethod
    def newest(self) -> NDArray:
        """(n_envs,) places of the transitions that were added last."""

    @abstractmethod
    def evicted(self) -> NDArray:
        """Places of transitions that cannot be drawn any more since the last call, though nothing took their place."""

    @abstractmethod
    def batch(self, place: NDArray, agent: "Agent") -> Batch:
        """The transitions at these places, (batch,)."""


class OneStepRows(Rows):
    """Rows of one step each, in the order in which every environment made them."""

    rewards: NDArray  # (places,) float32, a view

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> Iterator[NDArray]:
        """Places (batch,) of n batches."""

    @abstractmethod
    def following(self, place: NDArray, n: int) -> NDArray:
        """(batch, n) places of a transition and of the n - 1 that its environment made after it, if it did."""

    @abstractmethod
    def batch(self, place: NDArray, agent: "Agent", final: NDArray | None = None) -> Batch:
        """The transitions at these places; next_obs and terminated are those of `final`, where that is given."""
