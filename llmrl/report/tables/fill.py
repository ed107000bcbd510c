"""Cells and runs -> a table beside the published numbers: every number with n and interval, or why it is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from llmrl.report import stats
from llmrl.report.published import Published, published
from llmrl.report.store.groups import mixed
from llmrl.report.store.record import RunRecord
from llmrl.report.tables import claims, means, metrics
from llmrl.report.tables.caption import MARKS, MIXED, OTHER_CPU, SCRIPTED, caption
from llmrl.report.tables.definition import Claim, Table
from llmrl.report.tables.digits import decimals
from llmrl.report.tables.grid import DONE_RUN, Cell
from llmrl.report.tables.means import Mean
from llmrl.report.tables.measured import MISSING, CellRuns, Ran, finished, missing, on_disk
from llmrl.report.tables.metrics import NORMALISED, Score

BOOTSTRAP_SEED = 0
FILLED, PARTIAL = "filled", "partial"


@dataclass(frozen=True)
class CellResult:
    """A cell's numbers. Where `missing` gives a reason, there is none of ours."""

    row: str
    column: str
    metric: str
    ours: stats.Estimate | None = None
    n: int = 0
    last_evaluation: stats.Estimate | None = None  # where `ours` is something else
    last_tenth: stats.Estimate | None = None  # beside train_last_100: of the last tenth of training
    published: Published | None = None
    difference: stats.Estimate | None = None
    env_steps_total: float | None = None  # of a run on average, search included
    usd: float | None = None  # of a run on average
    marks: str = ""
    missing: str = ""
    open: bool = False  # whether `llmrl plan --run` would make one of its runs
    values: tuple[float, ...] = ()  # of the finished runs, also where others are missing
    mean: Mean | None = None  # `ours` with what it depends on


@dataclass(frozen=True)
class FilledTable:
    """A whole table."""

    table: Table
    name: str  # <paper>/<table>
    cells: list[CellResult]
    verdicts: list[claims.Verdict]
    caption: list[str]  # sentences
    summaries: list[CellResult] = field(default_factory=list)
    units: Mapping[str, str] = field(default_factory=dict)  # of each metric
    decimals: Mapping[str, int] = field(default_factory=dict)  # of each metric that is shown

    @property
    def states(self) -> dict[str, int]:
        """How many cells are filled, partial (some runs, no number yet) and missing."""
        count = [FILLED if cell.ours else MISSING if cell.missing == MISSING else PARTIAL for cell in self.cells]
        return {state: count.count(state) for state in (FILLED, PARTIAL, MISSING)}

    @property
    def next(self) -> CellResult | None:
        """The first cell without a number whose runs can be made; one that was begun comes first."""
        todo = [cell for cell in self.cells if cell.ours is None and cell.open]
        return min(todo, key=lambda cell: cell.missing == MISSING, default=None)


class Numbers(NamedTuple):
    """A number of each finished run of a cell, and their mean, or why there is none."""

    values: tuple[float, ...]
    mean: Mean | None
    missing: str = ""
    runs: Sequence[Ran] = ()  # that have such a number


def fill(
    table: Table, name: str, cells: Sequence[Cell], found: Mapping[tuple[int, str], RunRecord], score: str | None = None
) -> FilledTable:
    """The table from run directories. Raises ConfigError."""
    known = metrics.known()
    return filled(table, name, [on_disk(cell, [run.seed for run in cell.runs], found, known) for cell in cells], score)


def filled(table: Table, name: str, cells: Sequence[CellRuns], score: str | None = None) -> FilledTable:
    """The table from what is known of its cells. `score`: another one than the table's; a published number stands only
    beside the same quantity. Raises ConfigError."""
    which = Score.parse(score or table.score)
    paper = name.partition("/")[0] if which == Score.parse(table.score) else None
    return _Filler(table, paper, which, cells).filled(name)


class _Filler:
    def __init__(self, table: Table, paper: str | None, score: Score, cells: Sequence[CellRuns]) -> None:
        self.table, self.paper, self.score = table, paper, score
        self.cells = {(cell.row, cell.column): cell for cell in cells}
        self.metrics = metrics.known()
        self.decimals: dict[str, int] = {}

    def filled(self, name: str) -> FilledTable:
        results = {place: self.cell(cell) for place, cell in self.cells.items()}
        columns = dict.fromkeys(cell.column for cell in self.cells.values())
        summaries = [self.summary(label, results, column) for label in self.table.summary or {} for column in columns]
        cells, shown = list(self.cells.values()), [*results.values(), *summaries]
        texts = caption(self.table, name, self.score, cells, shown, finished(cells), self.paper, self.metrics)
        units = {name: metric.unit for name, metric in self.metrics.items()}
        self.decimals = {metric: decimals(*_numbers(shown, metric)) for metric in {cell.metric for cell in shown}}
        return FilledTable(self.table, name, list(results.values()), self.verdicts(results), texts, summaries, units,
                           self.decimals)  # fmt: skip

    # --- cells --------------------------------------------------------------------------------------------------------

    def cell(self, cell: CellRuns) -> CellResult:
        metric = self.table.metric_of(cell.column)
        numbers, theirs = self.numbers(cell, metric, self.score), self.theirs(cell.row, cell.column)
        result = CellResult(cell.row, cell.column, metric, n=len(numbers.values), values=numbers.values,
                            published=theirs, marks=marks(numbers.runs))  # fmt: skip
        if numbers.mean is None:
            return replace(result, missing=numbers.missing, open=self.open(cell, metric))
        measured, n = self.table.measured(metric), len(numbers.values)
        evaluated = measured in metrics.EVALUATED
        trained = evaluated and measured not in metrics.RATES and self.score.kind == "train_last_100"
        difference = None
        if theirs is not None and theirs.value is not None:
            difference = numbers.mean.minus(theirs.value, theirs.spread, theirs.n)
        steps, usd = self.on_average(cell, "env_steps_total"), self.on_average(cell, "usd")
        last = evaluated and self.score.kind != "last"
        return replace(
            result, ours=numbers.mean.estimate(n), mean=numbers.mean, difference=difference,
            last_evaluation=self.beside(cell, metric, Score("last")) if last else None,
            last_tenth=self.beside(cell, metric, Score("train_last_tenth")) if trained else None,
            env_steps_total=steps, usd=usd,
        )  # fmt: skip

    def open(self, cell: CellRuns, metric: str) -> bool:
        """Whether runs that the cell's number is made of can be made."""
        cells = [cell]
        if metric == NORMALISED and self.table.normalise is not None:
            ends = (self.table.normalise.low, self.table.normalise.high)
            cells += [other for column in ends if (other := self.cells.get((cell.row, column)))]
        return any(cell.open for cell in cells)

    def on_average(self, cell: CellRuns, metric: str) -> float | None:
        """A cost of the cell's runs; None where one of them does not know it."""
        values = [run.number(metric, self.score, None) for run in cell.runs]
        return None if None in values else float(np.mean([value for value in values if value is not None]))

    def beside(self, cell: CellRuns, metric: str, score: Score) -> stats.Estimate | None:
        """The same cell by another score."""
        numbers = self.numbers(cell, metric, score)
        return numbers.mean.estimate(len(numbers.values)) if numbers.mean is not None else None

    def numbers(self, cell: CellRuns, metric: str, score: Score) -> Numbers:
        evaluation_set = self.table.evaluation_set(cell.row, cell.column)
        scored = self.scored(cell, metric, score, evaluation_set)
        values, of = tuple(value for _, value in scored), [run for run, _ in scored]
        if len(values) < len(cell.seeds):
            return Numbers(() if metric == NORMALISED else values, None, missing(cell, len(values)), of)
        if metric != NORMALISED:
            return Numbers(values, means.mean_of((cell.row, cell.column), values), "", of)
        return self.normalised(cell, values, score, evaluation_set)._replace(runs=of)

    def normalised(
        self, cell: CellRuns, values: tuple[float, ...], score: Score, evaluation_set: str | None
    ) -> Numbers:
        """100 (x - mean low) / |mean high - mean low|; missing where the divisor may be 0."""
        anchors: list[Mean] = []
        columns = self.table.normalise
        assert columns is not None  # definition.py has checked it
        for column in (columns.low, columns.high):
            if (other := self.cells.get((cell.row, column))) is None:
                return Numbers((), None, f"normalise: column {column} is left out")
            theirs = [value for _, value in self.scored(other, NORMALISED, score, evaluation_set)]
            if len(theirs) < len(other.seeds):
                lacks = missing(other, len(theirs)).replace(MISSING, "no run")
                return Numbers((), None, f"normalise: {column} has {lacks}")
            anchors.append(means.mean_of(other.key, theirs))
        low, high = anchors
        divisor = high - low
        if not (divisor.above or divisor.below):
            ends = divisor.interval
            why = "fewer than 3 runs" if None in ends else f"[{ends[0]:.3g}, {ends[1]:.3g}]"
            return Numbers((), None, f"normalise: mean {columns.high} - mean {columns.low} may be 0 ({why})")
        points = tuple(100 * (x - low.value) / abs(divisor.value) for x in values)
        return Numbers(points, means.normalised(means.mean_of(cell.key, values), low, high))

    def scored(self, cell: CellRuns, metric: str, score: Score, evaluation_set: str | None) -> list[tuple[Ran, float]]:
        """The finished runs that have such a number, with it."""
        measured = self.table.measured(metric)
        done = [run for run in cell.runs if run.standing == DONE_RUN]
        numbers = [(run, run.number(measured, score, evaluation_set)) for run in done]
        return [(run, value) for run, value in numbers if value is not None]

    def theirs(self, row: str, column: str) -> Published | None:
        """The published number of a cell; None where the paper's table has no such cell."""
        if self.paper is None or self.table.published is None:
            return None
        rows, columns = self.table.rows, self.table.columns
        row = (rows[row].published or row) if row in rows else row
        column = columns[column].published or column
        return published().get((self.paper, self.table.published, row, column))

    # --- over rows ----------------------------------------------------------------------------------------------------

    def summary(self, label: str, results: Mapping[tuple[str, str], CellResult], column: str) -> CellResult:
        """A statistic over the rows, with its interval; only where every row is complete."""
        cells = [result for (_, name), result in results.items() if name == column]
        theirs, marked = self.theirs(label, column), {mark for cell in cells for mark in cell.marks}
        result = CellResult(label, column, cells[0].metric, published=theirs,
                            marks="".join(mark for mark in MARKS if mark in marked))  # fmt: skip
        whole = [(cell, cell.mean) for cell in cells if cell.mean is not None]
        if len(whole) < len(cells):
            begun = any(cell.missing != MISSING for cell in cells)
            return replace(result, missing=f"{len(whole)} of {len(cells)} rows" if begun else MISSING)
        values = {cell.row: cell.values for cell, _ in whole}
        statistic = (self.table.summary or {})[label]
        if statistic == "mean":
            mean = means.average([mean for _, mean in whole])
            estimate = replace(mean.estimate(0), n={row: len(runs) for row, runs in values.items()})
        else:
            estimate = stats.bootstrap(values, statistic, seed=BOOTSTRAP_SEED)
        difference = None
        if theirs is not None and (number := theirs.value) is not None:
            low, high = (None if end is None else end - number for end in (estimate.low, estimate.high))
            difference = replace(estimate, value=estimate.value - number, low=low, high=high)
        return replace(result, ours=estimate, n=min(map(len, values.values())), difference=difference)

    def verdicts(self, results: Mapping[tuple[str, str], CellResult]) -> list[claims.Verdict]:
        """Of the claims whose rows and columns are all here."""
        rows = list(dict.fromkeys(row for row, _ in results))
        columns = {column for _, column in results}
        return [
            self.verdict(claim, results, rows)
            for claim in self.table.claims
            if {claim.better, claim.than} <= columns and set(claim.rows or ()) <= set(rows)
        ]

    def verdict(
        self, claim: Claim, results: Mapping[tuple[str, str], CellResult], rows: Sequence[str]
    ) -> claims.Verdict:
        metric = self.table.metric_of(claim.better)
        places = [(row, column) for row in claim.rows or rows for column in (claim.better, claim.than)]
        one_scale, digits = self.metrics[metric].one_scale, self.decimals[metric]
        if metric != NORMALISED:
            scores = {place: results[place].values for place in places}
            return claims.judge(claim, claims.means_of(scores), rows, one_scale=one_scale, digits=digits)
        undefined = {place: results[place].missing for place in places if results[place].mean is None}
        there = {place: mean for place in places if (mean := results[place].mean) is not None}
        return claims.judge(claim, there, rows, one_scale=one_scale, undefined=undefined, digits=digits)


def _numbers(cells: Sequence[CellResult], metric: str) -> tuple[list[float], list[float]]:
    """Ours, and the published ones, of a metric."""
    ours = [cell.ours.value for cell in cells if cell.metric == metric and cell.ours is not None]
    theirs = [cell.published.value for cell in cells if cell.metric == metric and cell.published is not None]
    return ours, [value for value in theirs if value is not None]


def marks(runs: Sequence[Ran]) -> str:
    """† where the scripted LLM answered, ‡ where versions of the code are mixed, * where processors are."""
    differ = mixed(runs)
    scripted = any(run.model == "scripted" for run in runs)
    return SCRIPTED * scripted + MIXED * ("code" in differ) + OTHER_CPU * ("processors" in differ)
