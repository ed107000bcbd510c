"""llmrl table <paper>/<name> [--score S] [--seeds 0-4] [--row R] [--column C] [--set key=value]

The table from the runs on disk, in whatever study they were made, beside the published numbers; also written as
markdown, LaTeX and csv to outputs/tables/<paper>/<name>.*. A cell whose runs are not all done says what is missing.
`llmrl plan` lists the tables and makes the runs.

  --score S        which number of a run: train_last_100, train_last_tenth (under exploration), last, best,
                   mean_last_<k> (greedy); published numbers stand only beside the table's own score
  --seeds 0,1,4    or 0-4: other seeds than the table's
  --row, --column  only these, by their labels; may be given several times
  --set key=value  a further override for every run, such as budget=short or llm=scripted; may be given several times

Exit codes: 0 shown, 2 nothing can be shown, or the command asks for something wrong.
"""

import sys
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.commands.cells import arguments, cells_of, table_of
from llmrl.commands.columns import columns

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


def _table(given) -> int:
    from llmrl.report import grid, tables
    from llmrl.report.store import load

    table = table_of(given.name)
    if given.score:
        tables.Score.parse(given.score)
    cells = cells_of(table, given)
    wanted = grid.runs_of(cells)
    found = grid.find(wanted, load(wanted[0].outputs))
    made = tables.make(table, given.name, cells, found, given.score)
    for record in found.values():
        for damage in record.damage:
            print(f"Not counted: {damage}", file=sys.stderr)
    if not any(cell.values for cell in made.cells):
        states = ", ".join(f"{cell.row}, {cell.column}: {cell.missing}" for cell in made.cells[:4])
        raise ConfigError(
            f"{given.name}: nothing can be shown: no run of its {len(wanted)} is done ({states}"
            f"{', …' if len(cells) > 4 else ''}). `llmrl plan {given.name}` shows them, --run makes them."
        )
    print(text(made))
    for path in write(made, wanted[0].outputs / "tables" / given.name):
        print(f"written: {path}")
    return 0


def text(made) -> str:
    """The table for the terminal."""
    from llmrl.report import render

    parts = [made.caption[0]]
    if shaped := render.shape(made):
        parts.append("Ours (published)\n" + columns(shaped, right=range(1, len(shaped[0]))))
    parts.append(columns([render.HEAD, *render.lines(made)], right=render.RIGHT))
    parts.append("\n".join(made.caption[1:]))
    if made.verdicts:
        parts.append("Claims\n" + "\n".join(f"  {line}" for line in render.verdicts(made)))
    return "\n\n".join(parts) + "\n"


def write(made, stem: Path) -> list[Path]:
    """<stem>.md, .tex and .csv, each replaced whole."""
    from llmrl.report import render
    from llmrl.runs.files import write_text

    stem.parent.mkdir(parents=True, exist_ok=True)
    texts = {".md": render.markdown(made), ".tex": render.latex(made), ".csv": render.as_csv(made)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, content in zip(paths, texts.values()):
        write_text(path, content)
    return paths
