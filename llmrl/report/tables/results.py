"""results/<paper>/<table>.csv: the numbers of a table's finished runs, which ship where run directories do not.

A line is one number of one run in one cell: value per seed, with the command that made it, code, processor and model.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from llmrl.checks import ConfigError, nearest
from llmrl.report.tables.definition import Table
from llmrl.report.tables.fill import filled
from llmrl.report.tables.grid import DONE_RUN
from llmrl.report.tables.measured import CellRuns, Number, Ran
from llmrl.report.tables.metrics import Score, known


class Line(NamedTuple):
    """A line of the file."""

    row: str
    column: str
    seed: str
    metric: str
    evaluation_set: str  # "": the common one
    score: str  # which evaluations or episodes of the run count
    value: str  # all digits
    run: str  # the id: the hash of its configuration
    command: str
    length: str
    unit: str  # of the length: env_steps, or updates of offline training
    code: str
    processor: str
    model: str  # the language model that answered; "": none was asked
    episodes: str  # training episodes that train_last_100 averages


BETWEEN = "; "  # several codes, or processors, of one run


def file_of(folder: Path, name: str) -> Path:
    """<folder>/<paper>/<table>.csv"""
    return folder / f"{name}.csv"


def text(table: Table, name: str, cells: Sequence[CellRuns], file: Path, score: str | None = None) -> str:
    """What `file` is to hold: every number that the table asks of the finished runs, and what the file has beside: of
    other runs, such as those of another machine, and by other scores. Empty where no run here is finished. Raises
    ConfigError."""
    asked: dict[tuple[str, ...], Line] = {}
    filled(table, name, [_noting(cell, asked) for cell in cells], score)
    if not asked:
        return ""
    here = {line[:3]: (line.run, line.code) for line in asked.values()}  # by row, column, seed
    before = _lines(file, table) if file.exists() else []
    others = [line for line in before
              if line[:6] not in asked and here.get(line[:3]) in (None, (line.run, line.code))]  # fmt: skip
    rows, columns = list(table.rows), list(table.columns)
    lines = sorted([*others, *asked.values()], key=lambda line: (
        rows.index(line.row), columns.index(line.column), int(line.seed), *line[3:6]))  # fmt: skip
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([Line._fields, *lines])
    return out.getvalue()


def _noting(cell: CellRuns, asked: dict[tuple[str, ...], Line]) -> CellRuns:
    """The cell, whose runs write down what they are asked for."""
    (length, unit), *_ = sorted(cell.lengths)

    def noting(run: Ran) -> Ran:
        def number(metric: str, score: Score, evaluation_set: str | None) -> float | None:
            value = run.number(metric, score, evaluation_set)
            if value is not None:
                line = Line(
                    cell.row, cell.column, str(run.seed), metric, evaluation_set or "", score.name, repr(float(value)),
                    run.id, run.command, str(length), unit, BETWEEN.join(run.codes), BETWEEN.join(run.processors),
                    run.model or "", "" if run.episodes is None else str(run.episodes),
                )  # fmt: skip
                asked[line[:6]] = line
            return value

        return replace(run, number=number)

    return replace(cell, runs=tuple(noting(run) for run in cell.runs))


def read(file: Path, table: Table, rows: Sequence[str], columns: Sequence[str], seeds: Sequence[int]) -> list[CellRuns]:
    """The cells of these rows and columns, with the runs of these seeds. Raises ConfigError, naming file and line."""
    lines = _lines(file, table)
    found = []
    for row in rows:
        for column in columns:
            here = [line for line in lines if (line.row, line.column) == (row, column) and int(line.seed) in seeds]
            runs = tuple(_ran([line for line in here if int(line.seed) == seed]) for seed in seeds
                         if any(int(line.seed) == seed for line in here))  # fmt: skip
            lengths = frozenset((int(line.length), line.unit) for line in here)
            key = tuple((run.seed, run.id) for run in runs) or (row, column)
            found.append(CellRuns(row, column, tuple(seeds), runs, key, lengths))
    return found


def _ran(lines: Sequence[Line]) -> Ran:
    """A run, of its lines in a cell."""
    values = {(line.metric, line.score, line.evaluation_set): float(line.value) for line in lines}
    first = lines[0]
    return Ran(
        int(first.seed), first.run, DONE_RUN, _looked_up(values), first.command, _several(first.code),
        _several(first.processor), first.model or None, int(first.episodes) if first.episodes else None,
    )  # fmt: skip


def _looked_up(values: dict[tuple[str, str, str], float]) -> Number:
    return lambda metric, score, evaluation_set: values.get((metric, score.name, evaluation_set or ""))


def _several(text: str) -> tuple[str, ...]:
    return tuple(text.split(BETWEEN)) if text else ()


def _lines(file: Path, table: Table) -> list[Line]:
    """The file, checked."""
    if not file.is_file():
        raise ConfigError(f"there is no {file} in {Path.cwd()}: --from names a directory of results, such as the "
                          "repository's results/, which has some of the tables; `llmrl table` without --from shows the "
                          "runs on this machine")  # fmt: skip
    lines, places = [], set()
    try:
        with open(file, newline="", encoding="utf-8") as opened:
            reader = csv.reader(opened)
            if tuple(next(reader, ())) != Line._fields:
                raise ConfigError(f"{file}, line 1: the columns must be {','.join(Line._fields)}")
            for fields in reader:
                where = f"{file}, line {reader.line_num}"
                line = _checked(fields, where, table)
                if line[:6] in places:
                    raise ConfigError(f"{where}: this number of the run stands twice")
                places.add(line[:6])
                lines.append(line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as csv in UTF-8: {error}") from None
    return lines


def _checked(fields: Sequence[str], where: str, table: Table) -> Line:
    if len(fields) != len(Line._fields):
        raise ConfigError(f"{where}: {len(fields)} fields, not {len(Line._fields)}")
    line = Line(*fields)
    for label, labels, what in ((line.row, table.rows, "row"), (line.column, table.columns, "column"),
                                (line.metric, known(), "metric")):  # fmt: skip
        if label not in labels:
            raise ConfigError(f"{where}: there is no {what} `{label}`.{nearest(label, labels)}")
    for key, kind in (("seed", int), ("length", int), ("value", float), ("episodes", int)):
        field = getattr(line, key)
        try:
            if (field or key != "episodes") and not math.isfinite(kind(field)):
                raise ValueError
        except ValueError:
            raise ConfigError(f"{where}: {key} is not a number: {field!r}") from None
    return line
