"""llmrl plot <directory of runs …> [--kind K] [--score S] [--out DIR]
llmrl plot <paper>/<table> [--seeds 0-4] [--row R] [--column C] [--set key=value]

Draws all runs at and below the directories (a study, a run, several of them), each kind as png and pdf:
  curves    greedy evaluations over training, a panel per environment, bands over runs
  bars      a bar per method and environment
  profile   the fraction of runs above each normalised score (human-normalised for Atari, else random to best)
and the kinds that papers add; an unknown `--kind` names them.

--kind K    one kind alone; without it all that the runs have
--score S   what bars and profile show: last (default), best, mean_last_k, train_last_100, train_last_tenth
--out DIR   where to (default: plots/ in the first directory)

With a table's name: its learning curves, a panel per row and a line per column, beside the published ones where these
are known; outputs/tables/<paper>/<table>.png and .pdf. The other arguments are those of `llmrl table`.

Runs that differ by their seed alone are averaged; whatever else differs stands in the legend.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.checks import ConfigError, nearest, raised
from llmrl.conf_files import options

if TYPE_CHECKING:
    from llmrl.report.store.record import Kind

SCORES = ("last", "best", "mean_last_k", "train_last_100", "train_last_tenth")


def main(args: list[str]) -> int:
    if args and not args[0].startswith("-") and not Path(args[0]).exists():
        if args[0] in options("table"):
            return _table_main(args)
        near = nearest(args[0], options("table"))
        hint = near or " `llmrl status` lists the runs in outputs/<study>/, `llmrl plan` all tables."
        print(f"llmrl plot: there is no directory {args[0]} and no table `{args[0]}`.{hint}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser("llmrl plot", add_help=False, usage="llmrl plot <directory …> [--kind K] …")
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--kind")
    parser.add_argument("--score", choices=SCORES, default="last")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(args)
    try:
        return draw(given.paths, given.kind, given.score, given.out or given.paths[0] / "plots")
    except ConfigError as error:
        print(f"llmrl plot: {error}", file=sys.stderr)
        return 2


def _table_main(args: list[str]) -> int:
    from llmrl.commands.cells import arguments, cells_of, table_of

    given = arguments("plot").parse_args(args)
    try:
        from llmrl.report.figures.style import save
        from llmrl.report.figures.table_curves import curves
        from llmrl.report.store.loading import load
        from llmrl.report.tables import grid

        table = table_of(given.name)
        cells = cells_of(table, given)
        runs = grid.runs_of(cells)
        out, paper = runs[0].outputs / "tables" / given.name, given.name.partition("/")[0]
        figure = curves(table, paper, cells, grid.find(runs, load(runs[0].outputs)))
        print("  ".join(map(str, save(figure, out.parent, out.name))))
    except ConfigError as error:
        print(f"llmrl plot: {given.name}: {error}", file=sys.stderr)
        return 2
    return 0


def draw(paths: list[Path], kind: str | None, score: "Kind", out: Path) -> int:
    """Writes the figures and prints where. Raises ConfigError where there is nothing to draw."""
    from llmrl.papers import reports
    from llmrl.report.figures.kinds import kinds
    from llmrl.report.figures.style import save
    from llmrl.report.store.groups import gather, select
    from llmrl.runs.files import DiskError

    known = kinds(score)
    if kind is not None and kind not in known:
        raise ConfigError(f"--kind: there is no `{kind}`.{nearest(kind, known)}")
    records = select(paths)
    for note in (*reports().problems, *(f"left out, damaged: {d}" for record in records for d in record.damage)):
        print(note, file=sys.stderr)
    groups = gather(records)
    own = {record.method.partition("/")[0] for record in records}
    others = {name for paper, report in reports().found.items() if paper not in own for name in report.figures}
    drawn, reasons, width = 0, [], max(map(len, known))
    for name in (kind,) if kind else known:
        try:
            written = save(known[name].draw(groups), out, name)
        except ConfigError as error:
            if kind or name not in others:  # that a figure of another paper cannot be drawn goes without saying
                reasons.append(f"{name}: {error}")
            continue
        except DiskError:  # the next one cannot be written either
            raise
        except Exception as error:  # noqa: BLE001 (a paper's figure may be anybody's code)
            reasons.append(f"{name}: cannot be drawn: {raised(error)}")
            continue
        drawn += 1
        print(f"{name:<{width}} {'  '.join(map(str, written))}")
    if not drawn:
        raise ConfigError("; ".join(dict.fromkeys(reasons)))
    for reason in reasons:
        print(f"{'not drawn':<{width}} {reason}")
    return 0
