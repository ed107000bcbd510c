"""Proportional prioritised replay (Schaul et al. 2016, arXiv 1511.05952) on top of a buffer whose rows have places."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, ReplayBuffer, Ring, Rows, Step

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.contracts.agent import Agent

BLOCK = 128  # leaves under a node: two steps of a few numpy calls each find what a binary tree finds in 20 levels
SMALLEST = 1e-6  # added to a priority, so that nothing is left undrawn for ever


class SumTree:
    """Numbers >= 0 and the sums of BLOCK of them each: finds what lies at points of their running sum.

    A tree of two levels, not of log2(size): with numpy a level costs several calls whatever the size of the batch, and
    a running sum over a million / BLOCK numbers costs no more than that. A sum is always made anew from its numbers,
    never by adding differences, so the numbers alone say to the last bit what the tree is.
    """

    def __init__(self, size: int) -> None:
        self.sums = np.zeros(-(-size // BLOCK))
        self.blocks = np.zeros((len(self.sums), BLOCK))
        self.leaves = self.blocks.reshape(-1)[:size]

    def set(self, index: NDArray, value: NDArray | float) -> None:
        """leaves[index] = value"""
        self.leaves[index] = value
        block = index // BLOCK
        self.sums[block] = self.blocks.take(block, axis=0).sum(1)

    def load(self, leaves: NDArray) -> None:
        """All leaves at once."""
        self.leaves[:] = leaves
        self.sums[:] = self.blocks.sum(1)

    def find(self, fraction: NDArray) -> NDArray:
        """Leaves (batch,) in which these fractions, 0 <= fraction < 1, of the whole sum lie; never one that is 0."""
        # Rounding could carry a point to the end of what it lies in, where only zeros may follow: stay below.
        sums = self.sums.cumsum()
        point = np.minimum(fraction * sums[-1], np.nextafter(sums[-1], 0))
        block = sums.searchsorted(point, side="right")
        point -= np.where(block > 0, sums[block - 1], 0)
        within = self.blocks.take(block, axis=0).cumsum(1)
        point = np.minimum(point, np.nextafter(within[:, -1], 0))
        return block * BLOCK + (within > point[:, None]).argmax(1)


class PrioritizedReplay(ReplayBuffer):
    """Draws transition i with P(i) = p_i / sum_j p_j, p_i = (priority_i + SMALLEST)^alpha; new ones get the highest p.

    An agent's update gives back a `priority` (batch,) for each transition, such as |TD error| or its loss.
    """

    def __init__(self, rows: Rows, *, batch_size: int, alpha: float, beta: float, anneal_updates: float) -> None:
        """`beta` rises in a straight line to 1 over `anneal_updates` batches."""
        self.rows, self.batch_size, self.alpha = rows, batch_size, alpha
        self.beta_start, self.anneal_updates = beta, anneal_updates
        self.tree = SumTree(rows.places)
        self.highest = 1.0  # p of new transitions: the highest that was ever given
        self.drawn = 0  # batches

    def add(self, step: Step) -> None:
        self.rows.add(step)
        self.tree.set(self.rows.newest(), self.highest)
        if len(evicted := self.rows.evicted()):
            self.tree.set(evicted, 0.0)

    def num_updates(self, clock: Clock) -> int:
        return self.rows.num_updates(clock)

    @property
    def beta(self) -> float:
        done = min(1.0, self.drawn / max(self.anneal_updates, 1))
        return self.beta_start + (1 - self.beta_start) * done

    def batches(self, n: int, rng: np.random.Generator, agent: "Agent") -> Iterator[Batch]:
        import torch

        for _ in range(n):
            place, weight = self.draw(rng)
            tensor = torch.from_numpy(weight.astype(np.float32)).to(agent.device)
            yield self.rows.batch(place, agent)._replace(weight=tensor, places=place)

    def draw(self, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Places and importance weights of one batch, each (batch,)."""
        # one point from each of `batch_size` equal parts of the sum (appendix B.2.1)
        place = self.tree.find((np.arange(self.batch_size) + rng.random(self.batch_size)) / self.batch_size)
        # w_i = (N P(i))^-beta / max_j w_j over the batch, in which N and the sum of all p cancel out
        p = self.tree.leaves[place]
        weight = (p / p.min()) ** -self.beta
        self.drawn += 1
        return place, weight

    def after(self, batch: Batch, out: Mapping[str, "Tensor"]) -> None:
        assert batch.places is not None  # `batches` filled it
        self.write_back(batch.places, out["priority"].cpu().numpy())

    def write_back(self, place: NDArray, priority: NDArray) -> None:
        """New priorities (batch,) of what was drawn."""
        p = (priority.astype(np.float64) + SMALLEST) ** self.alpha
        self.tree.set(place, p)
        self.highest = max(self.highest, float(p.max()))

    def rings(self) -> Mapping[str, Ring]:
        return self.rows.rings()

    def state_dict(self) -> dict:
        return {
            "rows": self.rows.state_dict(),
            "p": self.tree.leaves.copy(),
            "highest": self.highest,
            "drawn": self.drawn,
        }

    def load_state_dict(self, state: dict) -> None:
        self.rows.load_state_dict(state["rows"])
        self.tree.load(state["p"])
        self.highest, self.drawn = state["highest"], state["drawn"]
