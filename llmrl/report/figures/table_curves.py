"""A table's learning curves beside the paper's: a panel of ours and one of theirs for each row, a line per column."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmrl.checks import ConfigError
from llmrl.report.figures.curves import draw_runs
from llmrl.report.figures.style import INTERVAL, legend, name_left, panels_for, styles_for, thousands, units
from llmrl.report.published import published
from llmrl.report.store.files import evaluations
from llmrl.report.store.groups import counted
from llmrl.report.store.record import RunRecord
from llmrl.report.tables.definition import Table
from llmrl.report.tables.grid import DONE_RUN, Cell, standing
from llmrl.report.tables.metrics import EVALUATED, RATES, known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(
    table: Table, paper: str | None, cells: Sequence[Cell], found: Mapping[tuple[int, str], RunRecord]
) -> "Figure":
    """Greedy evaluations over training, of the runs so far, in what the table measures (the return, where that is no
    rate of success); not of columns that show something else of a run. Raises ConfigError where no run has one yet."""
    metric = table.metric if table.metric in RATES else "return"
    cells = [cell for cell in cells if table.measured(table.metric_of(cell.column)) in EVALUATED]
    runs = {}
    for cell in cells:
        evaluation_set = table.evaluation_set(cell.row, cell.column)
        there = [_measured(found[run.key], metric, evaluation_set) for run in cell.runs if run.key in found]
        runs[cell.row, cell.column] = [run for run in there if len(run.evals.steps)]
    if not any(runs.values()):
        raise ConfigError("no run of this table has an evaluation yet")
    rows = list(dict.fromkeys(cell.row for cell in cells))
    columns = list(dict.fromkeys(cell.column for cell in cells))
    styles = styles_for(columns)
    theirs = {row: _published(table, paper, row, columns) for row in rows}
    names = [f"{row}, {whose}" for row in rows for whose in (("ours", "published") if theirs[row] else ("ours",))]
    figure, panels = panels_for(names, width=4.8, height=3.4, columns=2 if any(theirs.values()) else 3)
    for row in rows:
        ours = panels[f"{row}, ours"]
        for column in columns:
            if mine := runs.get((row, column)):
                draw_runs(ours, mine, styles[column], column)
        if theirs[row]:
            other = panels[f"{row}, published"]
            for column, points in theirs[row].items():
                other.plot(*zip(*points), **styles[column], linewidth=1.4, label=column)
            _same_axes(ours, other)
    for name, axes in panels.items():
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel(units(run for found in runs.values() for run in found) or "env_steps")
        axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
    name_left(panels, f"{known()[metric].unit}, greedy evaluation")
    legend(figure, panels, f"ours: mean over runs; band: {INTERVAL}", _counts(cells, runs))
    return figure


def _measured(record: RunRecord, metric: str, evaluation_set: str | None) -> RunRecord:
    """The run, whose evaluations are those on an evaluation set, and their `returns` what is measured."""
    if record.damaged or (metric == "return" and evaluation_set is None):
        return record
    key = "returns" if metric == "return" else metric
    evals, _ = evaluations(record.path / "eval.jsonl", standing(record) == DONE_RUN, evaluation_set, key)
    return replace(record, evals=evals)


def _published(
    table: Table, paper: str | None, row: str, columns: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Column -> [(env_steps, value), …] of the published curves of a row; {} where none are known."""
    name = table.rows[row].curves
    if paper is None or name is None:
        return {}
    labels = {table.columns[column].published or column: column for column in columns}
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in published().values():
        if (cell.paper, cell.table) == (paper, name) and cell.row in labels and cell.value is not None:
            points.setdefault(labels[cell.row], []).append((float(cell.column), cell.value))
    return {column: sorted(p) for column, p in points.items()}


def _same_axes(ours: "Axes", theirs: "Axes") -> None:
    """Both show the same range, so that the eye can compare."""
    for side in ("x", "y"):
        limits = [getattr(axes, f"get_{side}lim")() for axes in (ours, theirs)]
        both = min(low for low, _ in limits), max(high for _, high in limits)
        for axes in (ours, theirs):
            getattr(axes, f"set_{side}lim")(both)


def _counts(cells: Sequence[Cell], runs: Mapping[tuple[str, str], Sequence[RunRecord]]) -> dict[str, str]:
    """What `counted` says of each column of ours."""
    texts = {}
    for column in dict.fromkeys(cell.column for cell in cells):
        mine = [runs[cell.row, column] for cell in cells if cell.column == column]
        unfinished = sum(standing(run) != DONE_RUN for row in mine for run in row)
        texts[column] = counted(list(map(len, mine)), unfinished, mine)
    return texts
