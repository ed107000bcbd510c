"""A table's learning curves: a panel for each row, a line per column, and in its colour the paper's points.

Where there are more columns than colours, each evaluation set has panels of its own, and columns of the same runs share
a line's colour and name.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmrl.checks import ConfigError
from llmrl.report.figures.curves import draw_runs
from llmrl.report.figures.style import (
    COLOURS,
    GREY,
    INTERVAL,
    legend,
    name_left,
    panels_for,
    same_range,
    styles_for,
    thousands,
    units,
)
from llmrl.report.published import published
from llmrl.report.store.files import evaluations
from llmrl.report.store.groups import counted
from llmrl.report.store.record import RunRecord
from llmrl.report.tables.definition import Table
from llmrl.report.tables.grid import DONE_RUN, Cell, standing
from llmrl.report.tables.metrics import EVALUATED, RATES, known

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUBLISHED: dict[str, Any] = {
    "linestyle": (0, (1, 2)),
    "linewidth": 1.0,
    "marker": "D",
    "markersize": 3.5,
    "markerfacecolor": "white",
}


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
    columns = list(dict.fromkeys(cell.column for cell in cells))
    crowded = len(columns) > len(COLOURS)
    names = _of_the_same_runs(cells) if crowded else dict(zip(columns, columns))
    styles = styles_for(list(dict.fromkeys(names.values())))
    theirs = {cell.row: _published(table, paper, cell.row, columns) for cell in cells}
    ends = {} if any(theirs.values()) else _ends(table, paper, cells, metric)
    titles: dict[str, list[tuple[str, str]]] = defaultdict(list)  # of the panels: what is drawn there
    for cell in cells:
        if runs[cell.row, cell.column] or theirs[cell.row].get(cell.column) or ends.get((cell.row, cell.column)):
            cases = table.evaluation_set(cell.row, cell.column) if crowded else None
            title = f"{cell.row}, {cases.replace('_', ' ')}" if cases else cell.row
            titles[title].append((cell.row, cell.column))
    figure, panels = panels_for(list(titles), width=4.8, height=3.4)
    for title, axes in panels.items():
        for row, column in titles[title]:
            name = names[column]
            if mine := runs[row, column]:
                draw_runs(axes, mine, styles[name], name)
            if points := theirs[row].get(column) or ends.get((row, column)):
                axes.plot(*zip(*points), **PUBLISHED, color=styles[name]["color"])
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(units(run for found in runs.values() for run in found) or "env_steps")
        axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
    if any(theirs.values()) or ends:
        next(iter(panels.values())).plot([], [], **PUBLISHED, color=GREY, label="published")
    if metric in RATES or crowded:  # of all rows, or of all ways to evaluate, on one scale
        same_range(panels.values())
    if crowded:  # one evaluation after training stands where training ends
        low, high = zip(*(axes.get_xlim() for axes in panels.values()))
        for axes in panels.values():
            axes.set_xlim(min(low), max(high))
    name_left(panels, known()[metric].unit if crowded else f"{known()[metric].unit}, greedy evaluation")
    legend(figure, panels, f"ours: mean over runs; band: {INTERVAL}", _counts(cells, runs))
    return figure


def _of_the_same_runs(cells: Sequence[Cell]) -> dict[str, str]:
    """Column -> the first column of the same runs."""
    keys: defaultdict[str, list] = defaultdict(list)
    for cell in cells:
        keys[cell.column] += [run.key for run in cell.runs]
    first: dict[tuple, str] = {}
    return {column: first.setdefault(tuple(its), column) for column, its in keys.items()}


def _ends(
    table: Table, paper: str | None, cells: Sequence[Cell], metric: str
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(row, column) -> the published number of the table at the end of training, where it is of evaluations and of what
    is drawn."""
    if not table.published or table.score.startswith("train_") or table.metric != metric:
        return {}
    found = {}
    for cell in cells:
        names = table.rows[cell.row].published or cell.row, table.columns[cell.column].published or cell.column
        theirs = published().get((paper or "", table.published, *names))
        if theirs is not None and theirs.value is not None and cell.runs and table.metric_of(cell.column) == metric:
            found[cell.row, cell.column] = [(float(cell.runs[0].steps), theirs.value)]
    return found


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


def _counts(cells: Sequence[Cell], runs: Mapping[tuple[str, str], Sequence[RunRecord]]) -> dict[str, str]:
    """What `counted` says of each column of ours."""
    texts = {}
    for column in dict.fromkeys(cell.column for cell in cells):
        mine = [runs[cell.row, column] for cell in cells if cell.column == column]
        unfinished = sum(standing(run) != DONE_RUN for row in mine for run in row)
        texts[column] = counted(list(map(len, mine)), unfinished, mine)
    return texts
