"""A paper's claims about its table, judged on our runs by a rule that stands with the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmrl.intervals import MIN_N
from llmrl.report.tables.definition import Claim
from llmrl.report.tables.means import Mean, average, mean_of, relative_gain

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
UNTESTED = "not tested yet"
RULE = (
    "A claim is reproduced where the 95 % interval of the difference (Welch's t, over runs) lies above 0 {over}; not "
    "reproduced where it lies below 0 {under}; undecided otherwise: these runs cannot tell. So it is with fewer than "
    f"{MIN_N} finished runs in a cell."
    "{relative}"
)
RELATIVE = " The difference is a share of the second column's size in each row, since rows have different scales."
OVER = {"mean": "on average over the rows", "each": "in every row", "most": "in more than half of the rows"}
UNDER = {"mean": "there", "each": "in some row", "most": "in half of the rows or more"}
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
    undefined: Mapping[Place, str] = {}, digits: int = 2,  # noqa: B006
) -> Verdict:  # fmt: skip
    """The verdict on a claim.

    Args:
        means: of the finished runs of each cell, whatever number there is.
        one_scale: whether a score of one row can be added to one of another; returns of different tasks cannot.
        undefined: why a cell that has runs has no number.
        digits: decimals of the differences.
    """
    rows = list(claim.rows or rows)
    relative = claim.over == "mean" and not one_scale and len(rows) > 1
    rule = RULE.format(over=OVER[claim.over], under=UNDER[claim.over], relative=RELATIVE * relative)
    places = [(row, column) for row in rows for column in (claim.better, claim.than)]
    if not any(place in means or place in undefined for place in places):
        return Verdict(claim, UNTESTED, "no finished run", rule)
    if reasons := [f"{', '.join(place)}: {undefined[place]}" for place in places if place in undefined]:
        return Verdict(claim, UNDECIDED, reasons[0], rule)
    counts = {place: means[place].n if place in means else 0 for place in places}
    few = [f"{f'{row}, ' * (len(rows) > 1)}“{column}” has {n}" for (row, column), n in counts.items() if n < MIN_N]
    if few:
        text = "; ".join(few[:3]) + (f"; and so on, {len(few)} cells" if len(few) > 3 else "")
        return Verdict(claim, UNDECIDED, f"too few finished runs ({text})", rule)
    pairs = [(means[row, claim.better], means[row, claim.than]) for row in rows]
    if relative:
        return Verdict(claim, *_relative(claim, pairs, rows), rule)
    each = [x - y for x, y in pairs]
    if claim.over == "mean":
        mean = average(each)
        return Verdict(claim, _verdict(mean.above, mean.below), difference(mean, f"+,.{digits}f"), rule)
    above, below = sum(d.above for d in each), sum(d.below for d in each)
    enough = len(rows) if claim.over == "each" else len(rows) // 2 + 1
    numbers = "; ".join(f"{row} {difference(d, f'+,.{digits}f')}" for row, d in zip(rows, each))
    return Verdict(claim, _verdict(above >= enough, len(rows) - below < enough), numbers, rule)


def _verdict(holds: bool, contradicted: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED if contradicted else UNDECIDED


def difference(mean: Mean, form: str) -> str:
    """+633 [-970, +2,236]"""
    low, high = mean.interval
    return f"{mean.value:{form}} [{low:{form}}, {high:{form}}]"


def _relative(claim: Claim, pairs: Sequence[tuple[Mean, Mean]], rows: Sequence[str]) -> tuple[str, str]:
    """Verdict and numbers of a claim about relative gains. A row whose divisor may be 0 has none."""
    for row, (_, y) in zip(rows, pairs):
        if not (y.above or y.below):
            low, high = y.interval
            return UNDECIDED, f"no relative gain in {row}: the mean of {claim.than} may be 0 ([{low:.3g}, {high:.3g}])"
    gains = [relative_gain(x, y) for x, y in pairs]
    mean = average(gains)
    text = ", ".join(f"{row} {gain.value:+.0%}" for row, gain in zip(rows, gains))
    return _verdict(mean.above, mean.below), f"{difference(mean, '+.0%')} on average ({text})"
