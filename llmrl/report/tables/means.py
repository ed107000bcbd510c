"""Means over runs, and numbers made of several of them, with the intervals that follow by the delta method."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrl.intervals import Interval, around, side
from llmrl.report.stats import Estimate


@dataclass(frozen=True)
class Mean:
    """A number made of means over sets of runs.

    `sides`: for each set, the runs' scores times the number's derivative by their mean; their variances add up. Two
    numbers of the same set move together, so that their difference is taken set by set.
    """

    value: float
    sides: Mapping[Hashable, NDArray]

    @property
    def n(self) -> int:
        """Runs of its smallest set."""
        return min(map(len, self.sides.values()))

    @property
    def interval(self) -> Interval:
        """95 %; (None, None) where a set has fewer than 3 runs."""
        return around(self.value, [side(scores) for scores in self.sides.values()])

    @property
    def above(self) -> bool:
        """Whether the interval lies above 0; not where there is none."""
        return (low := self.interval[0]) is not None and low > 0

    @property
    def below(self) -> bool:
        """Whether the interval lies below 0; not where there is none."""
        return (high := self.interval[1]) is not None and high < 0

    def __sub__(self, other: "Mean") -> "Mean":
        return _linear(self.value - other.value, (self, 1.0), (other, -1.0))

    def estimate(self, n: int) -> Estimate:
        """With n, the runs that the number is about."""
        low, high = self.interval
        return Estimate(self.value, low, high, 0.95, {"ours": n})

    def minus(self, number: float, spread: float | None, n: int | None) -> Estimate:
        """The difference to a published number, which is taken as exact where its spread over n runs is not known."""
        value = self.value - number
        ours = [side(scores) for scores in self.sides.values()]
        theirs = [] if spread is None or n is None else [(spread**2, n)]
        low, high = around(value, [*ours, *theirs])
        return Estimate(value, low, high, 0.95, {"ours": self.n})


def mean_of(runs: Hashable, scores: Sequence[float] | NDArray) -> Mean:
    """The mean over a set of runs, which `runs` names."""
    values = np.asarray(scores, np.float64)
    return Mean(float(values.mean()), {runs: values})


def average(means: Sequence[Mean]) -> Mean:
    """1/R Σ_r, over R rows."""
    value = sum(mean.value for mean in means) / len(means)
    return _linear(value, *((mean, 1 / len(means)) for mean in means))


def relative_gain(x: Mean, y: Mean) -> Mean:
    """(x̄ - ȳ) / |ȳ|, with the variance s²_x / (n_x ȳ²) + x̄² s²_y / (n_y ȳ⁴)."""
    size = abs(y.value)
    return _linear((x.value - y.value) / size, (x, 1 / size), (y, -x.value / (y.value * size)))


def normalised(x: Mean, low: Mean, high: Mean) -> Mean:
    """100 v, in %, with v = (x̄ - l̄) / w and w = |h̄ - l̄|.

    Of different runs, the variance of v is (s²_x / n_x + (1 - σv)² s²_l / n_l + v² s²_h / n_h) / w², with σ the sign of
    h̄ - l̄. Where two of the three are the same runs, their derivatives add up.
    """
    width = high.value - low.value
    w, sign = abs(width), 1.0 if width > 0 else -1.0
    v = (x.value - low.value) / w
    return _linear(100 * v, (x, 100 / w), (low, 100 * (sign * v - 1) / w), (high, -100 * sign * v / w))


def _linear(value: float, *parts: tuple[Mean, float]) -> Mean:
    """A number whose derivatives by these means are given."""
    sides: dict[Hashable, NDArray] = {}
    for mean, slope in parts:
        for runs, scores in mean.sides.items():
            sides[runs] = sides[runs] + slope * scores if runs in sides else slope * scores
    return Mean(value, sides)
