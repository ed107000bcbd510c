"""n-step returns (Sutton 1988) on top of a replay buffer of one-step transitions, summed up when they are drawn."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, OneStepRows, Ring, Rows, Step

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent


class NStepReplay(Rows):
    """Transitions over k <= n steps: R = sum_{i<k} gamma^i r_i, discount gamma^k, and next_obs after the k-th step.

    k is n, but less where the episode ends before, which `terminated` tells from a truncation, that is bootstrapped
    through; and less for an environment's newest steps, after which nothing has come yet.
    """

    def __init__(self, rows: OneStepRows, *, n: int, gamma: float) -> None:
        self.rows, self.n, self.gamma = rows, n, gamma
        self.places = rows.places
        self.powers = gamma ** np.arange(n + 1)
        self.ends = np.zeros(rows.places, bool)  # nothing may be added up beyond this step

    def add(self, step: Step) -> None:
        self.rows.add(step)
        self.ends[self.rows.newest()] = step.terminated | step.last

    def num_updates(self, clock: Clock) -> int:
        return self.rows.num_updates(clock)

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        for place in self.rows.draw(n, rng):
            yield self.batch(place, agent)

    def batch(self, place: NDArray, agent: "Agent") -> Batch:
        import torch

        at = self.rows.following(place, self.n)
        over = self.ends[at] | (at[..., None] == self.rows.newest()).any(-1)
        counts = np.ones(at.shape, bool)  # whether step i belongs to the sum: none before it was the last one
        np.logical_and.accumulate(~over[:, :-1], axis=1, out=counts[:, 1:])
        k = counts.sum(1)
        # R = sum_{i<k} gamma^i r_i
        reward = (self.rows.rewards[at] * counts) @ self.powers[:-1]

        def tensor(numbers: NDArray) -> "Tensor":
            return torch.from_numpy(numbers.astype(np.float32)).to(agent.device)

        batch = self.rows.batch(place, agent, final=at[np.arange(len(at)), k - 1])
        return batch._replace(reward=tensor(reward), discount=tensor(self.powers[k]))

    def newest(self) -> NDArray:
        return self.rows.newest()

    def evicted(self) -> NDArray:
        return self.rows.evicted()

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        """Nothing to take back."""

    def rings(self) -> Mapping[str, Ring]:
        return self.rows.rings()

    def state_dict(self) -> dict:
        return {"rows": self.rows.state_dict(), "ends": np.packbits(self.ends)}

    def load_state_dict(self, state: dict) -> None:
        self.rows.load_state_dict(state["rows"])
        self.ends[:] = np.unpackbits(state["ends"], count=self.places)
