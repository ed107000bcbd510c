"""llmrl table <paper>/<name> [--score S] [--seeds 0-4] [--row R] [--column C] [--set key=value] [--from | --to DIR]

The table from the runs on disk, in whatever study they were made, beside the published numbers; also written as
markdown, LaTeX and csv to outputs/tables/<paper>/<name>.*. Each cell is filled, partial (some of its runs are done) or
missing, and the last line says which command fills the next one. `llmrl plan` lists the tables.

  --score S        which number of a run: train_last_100, train_last_tenth (training episodes, under exploration), last,
                   best, mean_last_<k> (evaluations); published numbers stand only beside the table's own score
  --seeds 0,1,4    or 0-4: other seeds than the table's
  --row, --column  only these, by their labels; may be given several times
  --set key=value  a further override for every run, such as budget=short or llm=scripted; may be given several times
  --to DIR         also writes the finished runs to DIR/<paper>/<name>.csv: value per seed, command, code, processor and
                   model; what it holds of other runs stays. The repository's are in results/
  --from DIR       the table from that file instead of the runs on disk

Exit codes: 0 the table is shown, 2 the command is invalid, or --to has no finished run to write.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.checks import ConfigError
from llmrl.commands.cells import arguments, cells_of, chosen, table_of
from llmrl.commands.columns import CUT, columns, is_cut

if TYPE_CHECKING:
    from llmrl.report.tables.definition import Table
    from llmrl.report.tables.fill import FilledTable
    from llmrl.report.tables.measured import CellRuns

BAD_INPUT = 2


def main(args: list[str]) -> int:
    parser = arguments("table")
    parser.add_argument("--score")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--from", dest="source", type=Path, metavar="DIR")
    where.add_argument("--to", type=Path, metavar="DIR")
    given = parser.parse_args(args)
    try:
        if given.name is None:
            raise ConfigError("name a table; `llmrl plan` lists them.")
        return _table(given)
    except ConfigError as error:
        print(f"llmrl table: {error}", file=sys.stderr)
        return BAD_INPUT


def _table(given: argparse.Namespace) -> int:
    from llmrl.papers import reports
    from llmrl.report.tables.fill import filled
    from llmrl.report.tables.metrics import Score

    table = table_of(given.name)
    if given.score:
        Score.parse(given.score)
    if given.set and (given.source or given.to):
        raise ConfigError("results are of the table's own runs: --from and --to take no --set")
    cells, outputs = _shipped(table, given) if given.source else _on_disk(table, given)
    made = filled(table, given.name, cells, given.score)
    for problem in reports().problems:
        print(f"Note: {problem}", file=sys.stderr)
    shipped = _ship(table, given, cells) if given.to else []
    shown = text(made)
    print(shown)
    if is_cut(shown):
        print(f"Lines that end in {CUT} go on in the files below, and where the output is no terminal (… | less -S).\n")
    print(next_step(made, given))
    for why, labels in refused(cells).items():
        print(f"Not on this machine: {', '.join(f'“{label}”' for label in labels)}. {why}\n")
    for path in [*write(made, outputs / "tables" / given.name), *shipped]:
        print(f"written: {path}")
    return 0


def _on_disk(table: "Table", given: argparse.Namespace) -> tuple[list["CellRuns"], Path]:
    """The cells by run directories, and the directory outputs/."""
    from llmrl.report.store.loading import load
    from llmrl.report.tables import grid
    from llmrl.report.tables.measured import on_disk
    from llmrl.report.tables.metrics import known

    cells, metrics = cells_of(table, given, whole=bool(given.set)), known()  # of --set an error is the user's
    runs = grid.runs_of(cells)
    outputs = runs[0].outputs if runs else Path("outputs")
    found = grid.find(runs, load(outputs))
    for record in found.values():
        for damage in record.damage:
            print(f"Not counted: {damage}", file=sys.stderr)
    seeds = given.seeds or table.seeds
    return [on_disk(cell, seeds, found, metrics) for cell in cells], outputs


def _shipped(table: "Table", given: argparse.Namespace) -> tuple[list["CellRuns"], Path]:
    """The cells by the csv of --from, and the directory outputs/."""
    from llmrl.report.tables import results

    rows, columns = chosen(table, given)
    file = results.file_of(given.source, given.name)
    return results.read(file, table, rows, columns, given.seeds or table.seeds), Path("outputs")


def _ship(table: "Table", given: argparse.Namespace, cells: Sequence["CellRuns"]) -> list[Path]:
    """Writes the csv of --to."""
    from llmrl.report.tables import results
    from llmrl.runs.files import write_text

    file = results.file_of(given.to, given.name)
    content = results.text(table, given.name, cells, file, given.score)
    if not content:
        raise ConfigError(f"no finished run has a number for {file}; nothing is written there")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, content)
    return [file]


def refused(cells: Sequence["CellRuns"]) -> dict[str, list[str]]:
    """{why runs cannot be made on this machine: the columns}"""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell.refused and cell.column not in found.setdefault(cell.refused.partition("\n")[0], []):
            found[cell.refused.partition("\n")[0]].append(cell.column)
    return found


def next_step(made: "FilledTable", given: argparse.Namespace) -> str:
    """How many cells are filled, and the command that fills the next one."""
    from llmrl.report.tables import render
    from llmrl.report.tables.metrics import NORMALISED

    cell = made.next
    if cell is None:
        return f"{render.states(made)}\n"
    columns = [cell.column]
    if made.table.normalise is not None and cell.metric == NORMALISED:
        columns = list(dict.fromkeys((made.table.normalise.low, made.table.normalise.high, *columns)))
    words = ["llmrl", "plan", given.name, "--row", cell.row]
    words += [word for column in columns for word in ("--column", column)]
    if given.seeds:
        words += ["--seeds", ",".join(map(str, given.seeds))]
    words += [word for override in given.set for word in ("--set", override)]
    return f"{render.states(made)} The next one ({cell.row}, {cell.column}):\n  {shlex.join([*words, '--run'])}\n"


def text(filled: "FilledTable") -> str:
    """The table for the terminal."""
    from llmrl.report.tables import render

    parts = [filled.caption[0]]
    if render.has_compact(filled):
        shape = render.compact(filled)
        parts.append(f"{render.legend(filled).capitalize()}\n" + columns(shape, right=range(1, len(shape[0]))))
    if render.has_long(filled):
        lines = render.long(filled)
        parts.append(columns(lines, right=range(2, len(lines[0]))))
    parts.append("\n".join(filled.caption[1:]))
    if filled.verdicts:
        parts.append("Claims\n" + "\n".join(f"  {line}" for line in render.verdicts(filled)))
    return "\n\n".join(parts) + "\n"


def write(filled: "FilledTable", stem: Path) -> list[Path]:
    """<stem>.md, .tex and .csv, each replaced whole."""
    from llmrl.report.tables import render
    from llmrl.report.tables.latex import latex
    from llmrl.runs.files import write_text

    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = {".md": render.markdown(filled), ".tex": latex(filled), ".csv": render.as_csv(filled)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, content in zip(paths, texts.values()):
        write_text(path, content)
    return paths
