"""Sends to wandb what it does not have of runs: those with log.wandb=offline, and those whose server was down.

    WANDB_API_KEY=… python scripts/sync_wandb.py outputs [--all] [--project P]

Reads the runs' own files and sends the rows that the server lacks: a second call sends nothing twice. --all: runs with
log.wandb=off as well. A run that trains meanwhile is left to itself.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmrl.commands.status import run_directories  # noqa: E402
from llmrl.runs.files import read_json  # noqa: E402
from llmrl.runs.identity import RunDirectory  # noqa: E402
from llmrl.runs.wandb_mirror import WandbMirror  # noqa: E402


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--project")
    given = parser.parse_args(args)
    failed = 0
    for path in run_directories(given.directory):
        try:
            config = read_json(path / "config.json")
            if not given.all and config["log"]["wandb"] == "off":
                continue
            if RunDirectory(path).alive():
                print(f"{path}: trains, left alone")
                continue
            mirror = WandbMirror(path, "online", project=given.project)
            mirror.close()
            print(f"{path}: {mirror.sent} rows sent, {mirror.there} were there")
        except Exception as error:  # noqa: BLE001 (the others shall be sent all the same)
            failed += 1
            print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
