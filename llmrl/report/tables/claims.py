"""A paper's claims about its table, judged on our runs by a rule that stands with the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrl.intervals import MIN_N
from llmrl.report.tables.definition import Claim
from llmrl.report.tables.means import Mean, average, mean_of, relative_gain

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
Place = tuple[str, str]  # row, column


@dataclass(frozen=True)
class Verdict:
    """`rule` and `numbers` are what a reader needs to disagree."""

    claim: Claim
    verdict: str
    numbers: str
    rule: str


def means_of(scores: Mapping[Place, Sequence[float]]) -> dict[Place, Mean]:
    """The means of independent cells; those without a score are left out."""
    return {place: mean_of(place, values) for place, values in scores.items() if len(values)}


def judge(
    claim: Claim, means: Mapping[Place, Mean], rows: Sequence[str], *, one_scale: bool = True,
    undefined: Mapping[Place, str] = {},  # noqa: B006
) -> Verdict:  # fmt: skip
    """The verdict on a claim.

    Args:
        means: of the finished runs of each cell, whatever number there is.
        one_scale: whether a score of one row can be added to one of another; returns of different tasks cannot.
        undefined: why a cell that has runs has no number.
    """
    rows = list(claim.rows or rows)
    relative = claim.over == "mean" and not one_scale and len(rows) > 1
    rule = RULE.format(over=OVER[claim.over], under=UNDER[claim.over], relative=RELATIVE * relative)
    places = [(row, column) for row in rows for column in (claim.better, claim.than)]
    if reasons := [f"{', '.join(place)}: {undefined[place]}" for place in places if place in undefined]:
        return Verdict(claim, UNDECIDED, reasons[0], rule)
    counts = {place: means[place].n if place in means else 0 for place in places}
    if few := [f"{', '.join(place)}: {n}" for place, n in counts.items() if n < MIN_N]:
        text = "; ".join(few[:3]) + (f"; and {len(few) - 3} more" if len(few) > 3 else "")
        return Verdict(claim, UNDECIDED, f"too few runs ({text})", rule)
    pairs = [(means[row, claim.better], means[row, claim.than]) for row in rows]
    if relative:
        return Verdict(claim, *_relative(claim, pairs, rows), rule)
    each = [x - y for x, y in pairs]
    if claim.over == "mean":
        mean = average(each)
        return Verdict(claim, _verdict(mean.above, mean.below), _d(mean), rule)
    above, below = sum(d.above for d in each), sum(d.below for d in each)
    enough = len(rows) if claim.over == "each" else len(rows) // 2 + 1
    numbers = "; ".join(f"{row}: {_d(d)}" for row, d in zip(rows, each))
    return Verdict(claim, _verdict(above >= enough, len(rows) - below < enough), numbers, rule)


def _verdict(holds: bool, contradicted: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED if contradicted else UNDECIDED


def _d(mean: Mean, form: str = ".3g") -> str:
    low, high = mean.interval
    return f"D = {mean.value:{form}} [{low:{form}}, {high:{form}}]"


def _relative(claim: Claim, pairs: Sequence[tuple[Mean, Mean]], rows: Sequence[str]) -> tuple[str, str]:
    """Verdict and numbers of a claim about relative gains. A row whose divisor may be 0 has none."""
    for row, (_, y) in zip(rows, pairs):
        if not (y.above or y.below):
            low, high = y.interval
            return UNDECIDED, f"no relative gain in {row}: the mean of {claim.than} may be 0 ([{low:.3g}, {high:.3g}])"
    gains = [relative_gain(x, y) for x, y in pairs]
    mean = average(gains)
    text = ", ".join(f"{row} {gain.value:+.0%}" for row, gain in zip(rows, gains))
    return _verdict(mean.above, mean.below), f"{_d(mean, '+.0%')} ({text})"
