"""What the replay buffers share: a ring of preallocated columns, and the schedule by which batches are drawn."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmrl.contracts.explorer import Clock


class Ring:
    """Columns of equal length that are written round and round. Row `number` lives at `number % capacity`."""

    def __init__(self, **columns: NDArray) -> None:
        self.columns = columns
        self.capacity = len(next(iter(columns.values())))
        self.total = 0  # rows ever appended
        self.loads = 0  # calls of `load`

    @property
    def oldest(self) -> int:
        """The number of the oldest row that is still there."""
        return max(0, self.total - self.capacity)

    def advance(self, n: int) -> slice | NDArray:
        """Make room for `n` more rows; returns where to write them (a slice unless they wrap around)."""
        start = self.total % self.capacity
        self.total += n
        if start + n <= self.capacity:
            return slice(start, start + n)
        return np.arange(start, start + n) % self.capacity

    def rows(self, start: int, stop: int) -> dict[str, NDArray]:
        """Rows `start` to `stop`; views where they lie in one piece, so use them before the next append."""
        if not self.oldest <= start <= stop <= self.total:
            raise IndexError(f"rows {start} to {stop} are not in the ring, which holds {self.oldest} to {self.total}")
        first, last = start % self.capacity, (stop - 1) % self.capacity + 1
        if start == stop or first < last:
            return {name: column[first : first + stop - start] for name, column in self.columns.items()}
        return {name: np.concatenate([column[first:], column[:last]]) for name, column in self.columns.items()}

    def load(self, start: int, rows: dict[str, NDArray]) -> None:
        """Put back rows that `rows` returned, the oldest chunk first. A chunk may be longer than the ring."""
        if rows.keys() != self.columns.keys():
            raise ValueError(f"the chunk has the columns {sorted(rows)}, this replay buffer {sorted(self.columns)}")
        length = len(next(iter(rows.values())))
        keep = min(length, self.capacity)
        self.loads += 1
        self.total = start + length - keep
        at = self.advance(keep)
        for name, column in self.columns.items():
            column[at] = rows[name][length - keep :]


@dataclass(frozen=True)
class Sampling:
    """When and how a uniform replay buffer hands out batches."""

    batch_size: int
    learning_starts: int  # env_steps; no update before they have passed
    updates_per_env_step: float  # 0.25, 1, 10
    discount: float  # gamma
    with_replacement: bool

    def num_updates(self, clock: Clock) -> int:
        """Updates to run now: floor(rate * env_steps) in all, less what fell before learning_starts and what was done.

        At 1/4 an update falls on env_steps 4, 8, 12, …: stable-baselines3's train_freq=4, gradient_steps=1.
        """
        if clock.env_steps <= self.learning_starts:
            return 0
        n, per = self._rate
        return max(0, n * clock.env_steps // per - n * self.learning_starts // per - clock.updates)

    @cached_property
    def _rate(self) -> tuple[int, int]:
        """updates_per_env_step as a fraction of whole numbers: 0.29 * 100 is 29, not 28.999…"""
        return Fraction(self.updates_per_env_step).limit_denominator(10**6).as_integer_ratio()

    def draw(self, n: int, rng: np.random.Generator, size: int) -> NDArray:
        """Indices (n, batch_size) below `size`; with replacement as long as there are fewer rows than a batch."""
        if self.with_replacement or size < self.batch_size:
            return rng.integers(size, size=(n, self.batch_size))
        return np.stack([rng.choice(size, self.batch_size, replace=False, shuffle=False) for _ in range(n)])
