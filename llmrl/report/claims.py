"""What a paper says of its table, held against our runs by a rule that is said with the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from llmrl.report.grid import Claim
from llmrl.report.stats import welch

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
MIN_RUNS = 3
RULE = (
    "Rule: D is the mean of the runs' scores in the column said to be better minus that in the other one, with "
    "Welch's 95 % t interval. Reproduced: D's interval lies above 0 ({over}). Not reproduced: it lies below 0 "
    "({under}). Undecided: too few runs to tell, which is all else, and always where a cell has fewer than "
    f"{MIN_RUNS} finished ones."
)
OVER = {"mean": "D averaged over the rows", "each": "in every row", "most": "in more than half of the rows"}
UNDER = {"mean": "the same D", "each": "in some row", "most": "in half of the rows or more"}


@dataclass(frozen=True)
class Verdict:
    """`rule` and `numbers` are what one needs to disagree."""

    claim: Claim
    verdict: str
    numbers: str
    rule: str


def judge(claim: Claim, scores: Mapping[tuple[str, str], Sequence[float]], rows: Sequence[str]) -> Verdict:
    """The verdict on a claim. `scores`: of the finished runs of each (row, column), whatever number there is."""
    rows = list(claim.rows or rows)
    rule = RULE.format(over=OVER[claim.over], under=UNDER[claim.over])
    few = [(row, column, len(scores.get((row, column), ()))) for row in rows for column in (claim.better, claim.than)]
    few = [f"{row}, {column}: {n}" for row, column, n in few if n < MIN_RUNS]
    if few:
        told = "; ".join(few[:3]) + (f"; and {len(few) - 3} more" if len(few) > 3 else "")
        return Verdict(claim, UNDECIDED, f"too few runs ({told})", rule)
    pairs = [(np.asarray(scores[row, claim.better]), np.asarray(scores[row, claim.than])) for row in rows]
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


def mean_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]], confidence: float = 0.95) -> tuple[float, ...]:
    """D = 1/R Σ_r (mean x_r - mean y_r) with Welch's interval (low, high): the rows are independent, so v adds up.

    v = 1/R² Σ_r (s²_x/n_x + s²_y/n_y), with v² / Σ (its parts)²/(n - 1) degrees of freedom (Welch 1947)."""
    value = float(np.mean([x.mean() - y.mean() for x, y in pairs]))
    parts = [(side.var(ddof=1) / len(side) / len(pairs) ** 2, len(side) - 1) for pair in pairs for side in pair]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return value, value, value
    freedom = variance**2 / sum(v**2 / df for v, df in parts)
    half = float(distributions.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance))
    return value, value - half, value + half
