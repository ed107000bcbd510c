"""llmrl report <directory of runs …> [--out FILE]

Writes one html page about all runs at and below the directories: tables that sort and filter, plots, videos, LLM cost
and failures, what the LLM read and answered, configurations, versions. The page is a single file and needs no network.

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
    asked = parser.parse_args(args)
    from llmrl.report.groups import select
    from llmrl.report.page import write

    try:
        page = write(select(asked.paths), asked.out or asked.paths[0] / "report.html", title=_title(asked.paths))
    except ConfigError as error:
        print(f"llmrl report: {error}", file=sys.stderr)
        return 2
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _title(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
