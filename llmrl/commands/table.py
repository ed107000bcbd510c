"""llmrl table <paper>/<name> [--score S] [--seeds 0-4] [--row R] [--column C] [--set key=value]

The table from the runs on disk, in whatever study they were made, beside the published numbers; also written as
markdown, LaTeX and csv to outputs/tables/<paper>/<name>.*. A cell whose runs are not all done says what is missing.
`llmrl plan` lists the tables and makes the runs.

  --score S        which number of a run: train_last_100, train_last_tenth (under exploration), last, best,
                   mean_last_<k> (greedy); published numbers stand only beside the table's own score
  --seeds 0,1,4    or 0-4: other seeds than the table's
  --row, --column  only these, by their labels; may be given several times
  --set key=value  a further override for every run, such as budget=short or llm=scripted; may be given several times

Exit codes: 0 the table is shown, 2 it has no number yet, or the command is invalid.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.checks import ConfigError
from llmrl.commands.cells import arguments, cells_of, table_of
from llmrl.commands.columns import columns

if TYPE_CHECKING:
    from llmrl.report.tables.fill import FilledTable

BAD_INPUT = 2


def main(args: list[str]) -> int:
    parser = arguments("table")
    parser.add_argument("--score")
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
    from llmrl.report.store.loading import load
    from llmrl.report.tables import grid
    from llmrl.report.tables.fill import fill
    from llmrl.report.tables.metrics import Score

    table = table_of(given.name)
    if given.score:
        Score.parse(given.score)
    cells = cells_of(table, given)
    runs = grid.runs_of(cells)
    found = grid.find(runs, load(runs[0].outputs))
    filled = fill(table, given.name, cells, found, given.score)
    for problem in reports().problems:
        print(f"Note: {problem}", file=sys.stderr)
    for record in found.values():
        for damage in record.damage:
            print(f"Not counted: {damage}", file=sys.stderr)
    if not any(cell.values for cell in filled.cells):
        states = ", ".join(f"{cell.row}, {cell.column}: {cell.missing}" for cell in filled.cells[:4])
        raise ConfigError(
            f"{given.name}: nothing to show, none of its cells has a number ({states}"
            f"{', …' if len(cells) > 4 else ''}). `llmrl plan {given.name}` shows its runs, --run makes them."
        )
    print(text(filled))
    for path in write(filled, runs[0].outputs / "tables" / given.name):
        print(f"written: {path}")
    return 0


def text(filled: "FilledTable") -> str:
    """The table for the terminal."""
    from llmrl.report.tables import render

    parts = [filled.caption[0]]
    if shaped := render.shape(filled):
        parts.append("Ours (published)\n" + columns(shaped, right=range(1, len(shaped[0]))))
    parts.append(columns([render.HEAD, *render.lines(filled)], right=render.RIGHT))
    parts.append("\n".join(filled.caption[1:]))
    if filled.verdicts:
        parts.append("Claims\n" + "\n".join(f"  {line}" for line in render.verdicts(filled)))
    return "\n\n".join(parts) + "\n"


def write(filled: "FilledTable", stem: Path) -> list[Path]:
    """<stem>.md, .tex and .csv, each replaced whole."""
    from llmrl.report.tables import render
    from llmrl.runs.files import write_text

    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = {".md": render.markdown(filled), ".tex": render.latex(filled), ".csv": render.as_csv(filled)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, content in zip(paths, texts.values()):
        write_text(path, content)
    return paths
