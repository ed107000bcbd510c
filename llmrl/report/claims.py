"""What a paper says of its table, held against our runs by a rule that is said with the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmrl.intervals import MIN_N, around, side
from llmrl.report.grid import Claim
from llmrl.report.stats import welch

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
RULE = (
    "Rule: D is the mean of the runs' scores in the column said to be better minus that in the other one{relative}, "
    "with Welch's 95 % t interval. Reproduced: D's interval lies above 0 ({over}). Not reproduced: it lies below 0 "
    "({under}). Undecided: too few runs to tell, which is all else, and always where a cell has fewer than "
    f"{MIN_N} finished ones."
)
RELATIVE = ", in each row as a share of the latter's size, since rows are measured on different scales"
OVER = {"mean": "D averaged over the rows", "each": "in every row", "most": "in more than half of the rows"}
UNDER = {"mean": "the same D", "each": "in some row", "most": "in half of the rows or more"}
Pair = tuple[np.ndarray, np.ndarray]  # scores of the runs: said to be better, the other


@dataclass(frozen=True)
class Verdict:
    """`rule` and `numbers` are what one needs to disagree."""

    claim: Claim
    verdict: str
    numbers: str
    rule: str


def judge(
    claim: Claim, scores: Mapping[tuple[str, str], Sequence[float]], rows: Sequence[str], *, one_scale: bool = True
) -> Verdict:
    """The verdict on a claim. `scores`: of the finished runs of each (row, column), whatever number there is.
    `one_scale`: whether a score of one row can be added to one of another; returns of different tasks cannot."""
    rows = list(claim.rows or rows)
    relative = claim.over == "mean" and not one_scale and len(rows) > 1
    rule = RULE.format(over=OVER[claim.over], under=UNDER[claim.over], relative=RELATIVE * relative)
    few = [(row, column, len(scores.get((row, column), ()))) for row in rows for column in (claim.better, claim.than)]
    few = [f"{row}, {column}: {n}" for row, column, n in few if n < MIN_N]
    if few:
        told = "; ".join(few[:3]) + (f"; and {len(few) - 3} more" if len(few) > 3 else "")
        return Verdict(claim, UNDECIDED, f"too few runs ({told})", rule)
    pairs = [(np.asarray(scores[row, claim.better]), np.asarray(scores[row, claim.than])) for row in rows]
    if relative:
        return Verdict(claim, *_relative(claim, pairs, rows), rule)
    if claim.over == "mean":
        value, low, high = mean_difference(pairs)
        return Verdict(claim, _verdict(low > 0, high < 0), f"D = {value:.3g} [{low:.3g}, {high:.3g}]", rule)
    each = [welch(x, y) for x, y in pairs]
    told = "; ".join(f"{row}: D = {d.value:.3g} [{d.low:.3g}, {d.high:.3g}]" for row, d in zip(rows, each))
    above, below = sum(d.low > 0 for d in each), sum(d.high < 0 for d in each)
    enough = len(rows) if claim.over == "each" else len(rows) // 2 + 1
    return Verdict(claim, _verdict(above >= enough, len(rows) - below < enough), told, rule)


def _verdict(holds: bool, contradicted: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED if contradicted else UNDECIDED


def _relative(claim: Claim, pairs: Sequence[Pair], rows: Sequence[str]) -> tuple[str, str]:
    """Verdict and numbers of a claim about relative gains. A row whose divisor may be 0 has none."""
    for row, (_, y) in zip(rows, pairs):
        low, high = around(float(y.mean()), [side(y)])
        if low <= 0 <= high:
            return UNDECIDED, f"no relative gain in {row}: the mean of {claim.than} may be 0 ([{low:.3g}, {high:.3g}])"
    value, low, high = mean_gain(pairs)
    told = ", ".join(f"{row} {(x.mean() - y.mean()) / abs(y.mean()):+.0%}" for row, (x, y) in zip(rows, pairs))
    return _verdict(low > 0, high < 0), f"D = {value:+.0%} [{low:+.0%}, {high:+.0%}] ({told})"


def mean_difference(pairs: Sequence[Pair], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """D = 1/R Σ_r (mean x_r - mean y_r) with its interval (low, high): rows are independent, variances add up."""
    value = float(np.mean([x.mean() - y.mean() for x, y in pairs]))
    return value, *around(value, [side(scores / len(pairs)) for pair in pairs for scores in pair], confidence)


def mean_gain(pairs: Sequence[Pair], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """D = 1/R Σ_r (mean x_r - mean y_r) / |mean y_r| with its interval (low, high), by the delta method: the gain's
    variance is s²_x / (n_x ȳ²) + x̄² s²_y / (n_y ȳ⁴)."""
    value = float(np.mean([(x.mean() - y.mean()) / abs(y.mean()) for x, y in pairs]))
    sides = [side(scores / len(pairs)) for x, y in pairs for scores in (x / y.mean(), y * x.mean() / y.mean() ** 2)]
    return value, *around(value, sides, confidence)
