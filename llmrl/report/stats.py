"""Statistics over runs, as Agarwal et al. 2021 ("Deep RL at the Edge of the Statistical Precipice") define them.

Scores are labelled: {task: one score per run}; the episodes of a run have been averaged before. Tasks may differ in
their number of runs: every task counts alike all the same. A NaN is refused, or dropped and counted. Whatever is random
takes a seed. An interval that the data cannot give (fewer than 3 runs of a task) is None.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from llmrl.intervals import MIN_N, around, side

Scores = Mapping[str, ArrayLike]
Missing = Literal["refuse", "drop"]
CHUNK = 1 << 18  # values that a bootstrap holds at a time, whatever its number of repetitions


@dataclass(frozen=True)
class Estimate:
    """A number made from runs, with its interval."""

    value: float
    low: float | None  # None: a task with fewer than 3 runs tells too little of how runs differ
    high: float | None
    confidence: float
    n: dict[str, int]  # runs that counted, per task
    dropped: int = 0  # runs without a score (NaN) that did not count


@dataclass(frozen=True)
class Pool:
    """The scores of all tasks in one row, task after task."""

    tasks: tuple[str, ...]
    values: NDArray  # float64 (runs of all tasks,)
    sizes: NDArray  # int64 (tasks,)
    dropped: int

    @property
    def n(self) -> dict[str, int]:
        return dict(zip(self.tasks, self.sizes.tolist()))

    @property
    def spread_known(self) -> bool:
        return bool((self.sizes >= MIN_N).all())


def pool(scores: Scores, missing: Missing = "refuse") -> Pool:
    """Checks labelled scores. Raises ValueError naming task and run where one is NaN (unless missing="drop"), infinite,
    or where a task is left without any run."""
    if not scores:
        raise ValueError("no task, no statistic")
    kept: list[NDArray] = []
    dropped = 0
    for task, given in scores.items():
        runs = np.asarray(given, np.float64)
        if runs.ndim != 1:
            raise ValueError(f"{task}: expected one score per run, not shape {runs.shape}; average episodes first")
        if missing == "refuse" and np.isnan(runs).any():
            run = int(np.flatnonzero(np.isnan(runs))[0])
            raise ValueError(f'{task}: run {run} (counted from 0) has no score (NaN); missing="drop" leaves it out')
        if np.isinf(runs).any():
            raise ValueError(f"{task}: run {int(np.flatnonzero(np.isinf(runs))[0])} (counted from 0) is infinite")
        there = runs[~np.isnan(runs)]
        if not there.size:
            raise ValueError(f"{task}: no run with a score")
        dropped += runs.size - there.size
        kept.append(there)
    return Pool(tuple(scores), np.concatenate(kept), np.array([len(runs) for runs in kept]), dropped)


# --- statistics: (repetitions, runs of all tasks), runs per task -> (repetitions,) ------------------------------------

Statistic = Callable[[NDArray, NDArray], NDArray]


def _task_means(rows: NDArray, sizes: NDArray) -> NDArray:
    return np.add.reduceat(rows, np.cumsum(sizes) - sizes, axis=1) / sizes


def _mean(rows: NDArray, sizes: NDArray) -> NDArray:
    return _task_means(rows, sizes).mean(axis=1)


def _median(rows: NDArray, sizes: NDArray) -> NDArray:
    """Median over tasks of the task's mean."""
    return np.median(_task_means(rows, sizes), axis=1)


def _iqm(rows: NDArray, sizes: NDArray) -> NDArray:
    """Mean of the middle half of all runs. Where tasks differ in runs, a run weighs 1 / (runs of its task)."""
    if (sizes == sizes[0]).all():
        return stats.trim_mean(rows, 0.25, axis=1)
    order = np.argsort(rows, axis=1)
    weight = np.repeat(1 / (sizes * len(sizes)), sizes)[order]
    upto = np.cumsum(weight, axis=1)
    inside = np.clip(np.minimum(upto, 0.75) - np.maximum(upto - weight, 0.25), 0, None)
    return (inside * np.take_along_axis(rows, order, axis=1)).sum(axis=1) / inside.sum(axis=1)


def _optimality_gap(rows: NDArray, sizes: NDArray) -> NDArray:
    """By how much scores stay below 1 (on human-normalised scores: below a human); more than 1 counts as 1."""
    return 1 - _mean(np.minimum(rows, 1), sizes)


STATISTICS: dict[str, Statistic] = {"mean": _mean, "median": _median, "iqm": _iqm, "optimality_gap": _optimality_gap}


def aggregate(scores: Scores, statistic: str, *, missing: Missing = "refuse") -> float:
    """A statistic over tasks, "mean", "median", "iqm" or "optimality_gap": a point, without interval."""
    data = pool(scores, missing)
    return float(STATISTICS[statistic](data.values[None], data.sizes)[0])


# --- intervals --------------------------------------------------------------------------------------------------------


def bootstrap(
    scores: Scores,
    statistic: str,
    *,
    seed: int,
    repetitions: int = 50_000,
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> Estimate:
    """The statistic with its stratified percentile bootstrap interval: within each task, runs are drawn with
    replacement; no interval below 3 runs of a task. With few tasks of few runs it is too narrow: for means there are
    `student` and tables/means.py."""
    data, function = pool(scores, missing), STATISTICS[statistic]
    value = float(function(data.values[None], data.sizes)[0])
    rng = np.random.default_rng(seed)
    draws = (function(rows, data.sizes) for rows in _resamples(data, repetitions, rng)) if data.spread_known else ()
    return Estimate(value, *_percentiles(draws, confidence), confidence, data.n, data.dropped)


def _resamples(data: Pool, repetitions: int, rng: np.random.Generator, chunk: int | None = None) -> Iterator[NDArray]:
    """Rows of resampled scores, (repetitions of this chunk, runs of all tasks) at a time."""
    size = np.repeat(data.sizes, data.sizes)  # of the task that a column belongs to
    first = np.repeat(np.cumsum(data.sizes) - data.sizes, data.sizes)
    chunk = chunk or max(1, CHUNK // len(data.values))
    for start in range(0, repetitions, chunk):
        uniform = rng.random((min(chunk, repetitions - start), len(size)))
        yield data.values.take(first + (uniform * size).astype(np.intp))


def _percentiles(draws: Iterator[NDArray] | tuple, confidence: float) -> tuple[float | None, float | None]:
    values = list(draws)
    if not values:
        return None, None
    low, high = np.quantile(np.concatenate(values), ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def probability_of_improvement(
    ours: Scores,
    theirs: Scores,
    *,
    seed: int,
    repetitions: int = 2_000,
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> Estimate:
    """P(a run of ours is above a run of theirs), a tie counting one half, averaged over tasks: Mann and Whitney's
    U / (n m). Both sides are resampled. Raises ValueError where the tasks are not the same."""
    if set(ours) != set(theirs):
        raise ValueError(f"not the same tasks on both sides: {', '.join(sorted(set(ours) ^ set(theirs)))}")
    x, y = pool(ours, missing), pool({task: theirs[task] for task in ours}, missing)
    x_cuts, y_cuts = np.cumsum(x.sizes)[:-1], np.cumsum(y.sizes)[:-1]

    def above(xs: NDArray, ys: NDArray) -> NDArray:
        pairs = zip(np.split(xs, x_cuts, axis=1), np.split(ys, y_cuts, axis=1))
        signs = [np.sign(a[:, :, None] - b[:, None, :]).mean(axis=(1, 2)) for a, b in pairs]
        return (1 + np.mean(signs, axis=0)) / 2

    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // max(len(x.values), len(y.values), int((x.sizes * y.sizes).max())))
    both = zip(_resamples(x, repetitions, rng, chunk), _resamples(y, repetitions, rng, chunk))
    draws = (above(xs, ys) for xs, ys in both) if x.spread_known and y.spread_known else ()
    value = float(above(x.values[None], y.values[None])[0])
    n = {task: min(x.n[task], y.n[task]) for task in ours}
    return Estimate(value, *_percentiles(draws, confidence), confidence, n, x.dropped + y.dropped)


def performance_profile(
    scores: Scores, thresholds: ArrayLike, *, seed: int, repetitions: int = 2_000, confidence: float = 0.95
) -> tuple[NDArray, NDArray | None, NDArray | None]:
    """Which fraction of runs scores above each threshold, tasks counting alike: (thresholds,), its lower and its upper
    pointwise bound (None where a task has fewer than 3 runs)."""
    data, levels = pool(scores), np.asarray(thresholds, np.float64)

    def above(rows: NDArray) -> NDArray:
        return np.stack([_mean((rows > level).astype(np.float64), data.sizes) for level in levels], axis=1)

    profile = above(data.values[None])[0]
    if not data.spread_known:
        return profile, None, None
    draws = np.concatenate([above(rows) for rows in _resamples(data, repetitions, np.random.default_rng(seed))])
    low, high = np.quantile(draws, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
    return profile, low, high


# --- means ------------------------------------------------------------------------------------------------------------


def student(runs: ArrayLike, *, confidence: float = 0.95, missing: Missing = "refuse") -> Estimate:
    """The mean of one task's runs with Student's t interval, which is honest at 3 runs, where a bootstrap is not."""
    data = pool({"ours": runs}, missing)
    value = float(data.values.mean())
    low, high = around(value, [side(data.values)], confidence)
    return Estimate(value, low, high, confidence, data.n, data.dropped)


def welch(ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, missing: Missing = "refuse") -> Estimate:
    """Mean of our runs minus mean of theirs, with Welch's t interval; without where a side has fewer than 3 runs."""
    x, y = pool({"ours": ours}, missing), pool({"theirs": theirs}, missing)
    value = float(x.values.mean() - y.values.mean())
    low, high = around(value, [side(x.values), side(y.values)], confidence)
    return Estimate(value, low, high, confidence, x.n | y.n, x.dropped + y.dropped)


def human_normalised(scores: Scores, reference: Mapping[str, tuple[float, float]]) -> dict[str, NDArray]:
    """(score - random) / (human - random) of every run: 0 is the random policy, 1 a human. `reference` holds
    (random, human) per task (`published.atari_reference()`); ValueError names the tasks that it lacks."""
    if unknown := sorted(set(scores) - set(reference)):
        raise ValueError(f"no random and human score for {', '.join(unknown)}: these cannot be human-normalised")
    normal = {}
    for task, runs in scores.items():
        random, human = reference[task]
        normal[task] = (np.asarray(runs, np.float64) - random) / (human - random)
    return normal
