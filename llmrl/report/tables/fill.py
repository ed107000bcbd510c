"""Cells and runs -> a table beside the published numbers: every number with n and interval, or why it is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from llmrl.checks import ConfigError, raised
from llmrl.contracts.report import Metric
from llmrl.report import stats
from llmrl.report.published import Published, published
from llmrl.report.store.groups import mixed
from llmrl.report.store.record import RunRecord
from llmrl.report.tables import claims, means, metrics
from llmrl.report.tables.caption import MARKS, MIXED, OTHER_CPU, SCRIPTED, caption
from llmrl.report.tables.definition import Claim, Table
from llmrl.report.tables.grid import DAMAGED, DONE_RUN, RUNNING_RUN, Cell, standing
from llmrl.report.tables.means import Mean
from llmrl.report.tables.metrics import NORMALISED, Evaluated, Score

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class CellResult:
    """A cell's numbers. Where `missing` gives a reason, there is none of ours."""

    row: str
    column: str
    metric: str
    ours: stats.Estimate | None = None
    n: int = 0
    greedy: stats.Estimate | None = None
    last_tenth: stats.Estimate | None = None  # beside train_last_100: of the last tenth of training
    published: Published | None = None
    difference: stats.Estimate | None = None
    env_steps_total: float | None = None  # of a run on average, search included
    usd: float | None = None  # of a run on average
    marks: str = ""
    missing: str = ""
    values: tuple[float, ...] = ()  # of the finished runs, also where others are missing
    mean: Mean | None = None  # `ours` with what it depends on


@dataclass(frozen=True)
class FilledTable:
    """A whole table."""

    table: Table
    cells: list[CellResult]
    verdicts: list[claims.Verdict]
    caption: list[str]  # sentences
    summaries: list[CellResult] = field(default_factory=list)
    units: Mapping[str, str] = field(default_factory=dict)  # of each metric

    @property
    def complete(self) -> int:
        return sum(cell.ours is not None for cell in self.cells)


class Numbers(NamedTuple):
    """A number of each finished run of a cell, and their mean, or why there is none."""

    values: tuple[float, ...]
    mean: Mean | None
    missing: str = ""
    records: Sequence[RunRecord] = ()  # that have such a number


def fill(
    table: Table, name: str, cells: Sequence[Cell], found: Mapping[tuple[int, str], RunRecord], score: str | None = None
) -> FilledTable:
    """The table from what is on disk. `score`: another one than the table's; a published number stands only beside the
    same quantity. Raises ConfigError."""
    which = Score.parse(score or table.score)
    paper = name.partition("/")[0] if which == Score.parse(table.score) else None
    return _Filler(table, paper, which, cells, found).filled(name)


class _Filler:
    def __init__(
        self, table: Table, paper: str | None, score: Score, cells: Sequence[Cell],
        found: Mapping[tuple[int, str], RunRecord],
    ) -> None:  # fmt: skip
        self.table, self.paper, self.score = table, paper, score
        self.cells = {(cell.row, cell.column): cell for cell in cells}
        self.records = {
            place: [r for run in cell.runs if (r := found.get(run.key))] for place, cell in self.cells.items()
        }
        self.metrics = metrics.known()

    def filled(self, name: str) -> FilledTable:
        results = {place: self.cell(cell) for place, cell in self.cells.items()}
        columns = dict.fromkeys(cell.column for cell in self.cells.values())
        summaries = [self.summary(label, results, column) for label in self.table.summary or {} for column in columns]
        finished = {run.path: run for records in self.records.values() for run in records if standing(run) == DONE_RUN}
        texts = caption(self.table, name, self.score, list(self.cells.values()), list(results.values()),
                        list(finished.values()), self.paper, self.metrics)  # fmt: skip
        units = {name: metric.unit for name, metric in self.metrics.items()}
        return FilledTable(self.table, list(results.values()), self.verdicts(results), texts, summaries, units)

    # --- cells --------------------------------------------------------------------------------------------------------

    def cell(self, cell: Cell) -> CellResult:
        metric, records = self.table.metric_of(cell.column), self.records[cell.row, cell.column]
        numbers, theirs = self.numbers(cell, metric, self.score), self.theirs(cell.row, cell.column)
        result = CellResult(cell.row, cell.column, metric, n=len(numbers.values), values=numbers.values,
                            published=theirs, marks=marks(numbers.records))  # fmt: skip
        if numbers.mean is None:
            return replace(result, missing=numbers.missing)
        measured, n = self.table.measured(metric), len(numbers.values)
        evaluated = measured in metrics.EVALUATED
        trained = evaluated and measured not in metrics.RATES and self.score.kind == "train_last_100"
        difference = None
        if theirs is not None and theirs.value is not None:
            difference = numbers.mean.minus(theirs.value, theirs.spread, theirs.n)
        usd = [metrics.usd(record) for record in records]
        return replace(
            result, ours=numbers.mean.estimate(n), mean=numbers.mean, difference=difference,
            greedy=self.beside(cell, metric, Score("last")) if evaluated else None,
            last_tenth=self.beside(cell, metric, Score("train_last_tenth")) if trained else None,
            env_steps_total=float(np.mean([metrics.env_steps_total(record) for record in records])),
            usd=None if None in usd else sum(u for u in usd if u is not None) / len(usd),
        )  # fmt: skip

    def beside(self, cell: Cell, metric: str, score: Score) -> stats.Estimate | None:
        """The same cell by another score."""
        numbers = self.numbers(cell, metric, score)
        return numbers.mean.estimate(len(numbers.values)) if numbers.mean is not None else None

    def numbers(self, cell: Cell, metric: str, score: Score) -> Numbers:
        evaluation_set, records = self.table.evaluation_set(cell.row, cell.column), self.records[cell.row, cell.column]
        scored = self.scored(records, metric, score, evaluation_set)
        values, of = tuple(value for _, value in scored), [record for record, _ in scored]
        if len(values) < len(cell.runs):
            return Numbers(() if metric == NORMALISED else values, None, missing(cell, records, len(values)), of)
        if metric != NORMALISED:
            return Numbers(values, means.mean_of((cell.row, cell.column), values), "", of)
        return self.normalised(cell, values, score, evaluation_set)._replace(records=of)

    def normalised(self, cell: Cell, values: tuple[float, ...], score: Score, evaluation_set: str | None) -> Numbers:
        """100 (x - mean low) / |mean high - mean low|; missing where the divisor may be 0."""
        anchors: list[Mean] = []
        columns = self.table.normalise
        assert columns is not None  # definition.py has checked it
        for column in (columns.low, columns.high):
            if (other := self.cells.get((cell.row, column))) is None:
                return Numbers((), None, f"normalise: column {column} is left out")
            records = self.records[cell.row, column]
            theirs = [value for _, value in self.scored(records, NORMALISED, score, evaluation_set)]
            if len(theirs) < len(other.runs):
                return Numbers((), None, f"normalise: {column} has {missing(other, records, len(theirs))}")
            anchors.append(means.mean_of(keys(other), theirs))
        low, high = anchors
        divisor = high - low
        if not (divisor.above or divisor.below):
            ends = divisor.interval
            why = "fewer than 3 runs" if None in ends else f"[{ends[0]:.3g}, {ends[1]:.3g}]"
            return Numbers((), None, f"normalise: mean {columns.high} - mean {columns.low} may be 0 ({why})")
        points = tuple(100 * (x - low.value) / abs(divisor.value) for x in values)
        return Numbers(points, means.normalised(means.mean_of(keys(cell), values), low, high))

    def scored(
        self, records: Sequence[RunRecord], metric: str, score: Score, evaluation_set: str | None
    ) -> list[tuple[RunRecord, float]]:
        """The finished runs that have such a number, with it."""
        kind = self.metrics[self.table.measured(metric)]
        done = [record for record in records if standing(record) == DONE_RUN]
        found = [(record, _number(metric, kind, record, score, evaluation_set)) for record in done]
        return [(record, value) for record, value in found if value is not None]

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
            return replace(result, missing=f"{len(whole)} of {len(cells)} rows")
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
        one_scale = self.metrics[metric].one_scale
        if metric != NORMALISED:
            scores = {place: results[place].values for place in places}
            return claims.judge(claim, claims.means_of(scores), rows, one_scale=one_scale)
        undefined = {place: results[place].missing for place in places if results[place].mean is None}
        there = {place: mean for place in places if (mean := results[place].mean) is not None}
        return claims.judge(claim, there, rows, one_scale=one_scale, undefined=undefined)


def _number(
    name: str, kind: Evaluated | Metric, record: RunRecord, score: Score, evaluation_set: str | None
) -> float | None:
    if isinstance(kind, Evaluated):
        return kind.number(record, score, evaluation_set)
    try:
        return kind.number(record)
    except Exception as error:  # noqa: BLE001 (a paper's metric may be anybody's code)
        raise ConfigError(f"metric {name} of {record.path}: {raised(error)}") from error


def keys(cell: Cell) -> tuple[tuple[int, str], ...]:
    """The runs of a cell, which another column may share."""
    return tuple(run.key for run in cell.runs)


def missing(cell: Cell, records: Sequence[RunRecord], scored: int) -> str:
    """What a cell without a number lacks: no run; 1 of 3 runs (1 running)."""
    if not records:
        return "no run"
    states = [standing(record) for record in records]
    parts = [f"{states.count(state)} {state}" for state in (RUNNING_RUN, DAMAGED) if state in states]
    if states.count(DONE_RUN) > scored:
        parts.append(f"{states.count(DONE_RUN) - scored} without this number")
    return f"{scored} of {len(cell.runs)} runs" + (f" ({', '.join(parts)})" if parts else "")


def marks(records: Sequence[RunRecord]) -> str:
    """† where the scripted LLM answered, ‡ where versions of the code are mixed, * where processors are."""
    scripted = any(r.llm and r.llm.get("model") == "scripted" and r.llm.get("calls") for r in records)
    differ = mixed(records)
    return SCRIPTED * scripted + MIXED * ("code" in differ) + OTHER_CPU * ("processors" in differ)
