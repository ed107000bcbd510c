"""llmrl report <directory of runs …> [--out FILE]

Writes one html page about all runs at and below the directories: tables that sort and filter, plots, videos, what a
paper adds, LLM cost and failures, transcripts, configurations, versions. It is a single file that needs no network.

--out FILE   where to (default: report.html in the first directory)
"""

import argparse
import sys
from pathlib import Path

from llmrl.checks import ConfigError


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl report", add_help=False, usage="llmrl report <directory …> [--out FILE]")
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(args)
    from llmrl.report.page.write import write
    from llmrl.report.store.groups import select

    try:
        page = write(select(given.paths), given.out or given.paths[0] / "report.html", title=_title(given.paths))
    except ConfigError as error:
        print(f"llmrl report: {error}", file=sys.stderr)
        return 2
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _title(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
