"""How long `llmrl view` takes to list runs: read for the first time, with the index, and from an unchanged directory.

    .venv/bin/python scripts/bench_view.py [--runs 1000]

Prints seconds of wall-clock and of processor time, and the ratio to the 2 seconds that a list of 1,000 runs may take.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

LIMIT_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    given = parser.parse_args()
    from made_runs import make_run

    from llmrl.report.view.listing import Listing

    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder).resolve()
        for seed in range(given.runs):
            make_run(outputs, seed=seed, status="INTERRUPTED", returns=tuple(map(float, range(20))))
        time.sleep(3)  # younger files are not trusted to the index
        listing = Listing(outputs, outputs)
        for name in ("without an index", "with the index", "nothing has changed"):
            if name == "with the index":
                listing = Listing(outputs, outputs)
            wall, used = time.perf_counter(), time.process_time()
            listing.look()
            wall, used = time.perf_counter() - wall, time.process_time() - used
            limit = LIMIT_S * given.runs / 1000
            print(f"{name:<20} {wall:6.2f} s, {used:6.2f} s of this process, {wall / limit:5.2f} of the limit")


if __name__ == "__main__":
    main()
