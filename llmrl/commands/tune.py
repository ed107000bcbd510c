"""llmrl tune [key=value …] --param KEY=SPACE [--param …] [--trials N] [-j N] [--seeds 0-2] [--no-pruning]

Searches the values of keys that make the objective of `llmrl run <overrides>` largest. A trial is a run (one for each
seed) with values that Optuna draws: 10 at random, then where earlier ones say that better ones are. Runs whose learning
curve is below the median of the trials before are stopped, with a checkpoint. All lies in outputs/<study>/: runs like
any others, and in tune/ the search. The same command goes on with it, also with more trials; several at once, on
machines that share the disk, work on it together.

  --param KEY=SPACE  log(1e-5,1e-2) | uniform(0.9,0.99) | choice(64,128,256); quoted, as in
                     --param agent.learning_rate='log(1e-5,1e-2)'. Keys of whole numbers are given whole ones
  --trials N         so many in all (20 if not given)
  -j N               so many workers on this machine (1 if not given)
  --seeds 0,1,4      or 0-4: a run for each; a trial's value is their mean (the run's seed if not given)
  --no-pruning       every run to its end

objective=last | best | mean_last_5 | success/last …: a score of tables (docs/tables.md), alone or behind a metric.

The best trial so far is a preset: LLMRL_PATH=outputs/<study>/tune llmrl run experiment=tuned/<study>

Exit codes: 0 all trials are done, 1 one failed, 2 the command is invalid, 75 a run is paused, 128 + n stopped by
signal n.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.checks import ConfigError
from llmrl.commands.cells import seeds

if TYPE_CHECKING:
    from llmrl.tuning.study import Search

BAD_INPUT = 2


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl tune", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=SPACE")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--seeds", type=seeds)
    parser.add_argument("--no-pruning", action="store_true")
    given = parser.parse_intermixed_args(args)
    try:
        for flag, number in (("-j", given.j), ("--trials", given.trials)):
            if number < 1:
                raise ConfigError(f"{flag} {number}: at least 1 is needed")
        search = search_of(given)
        search.keep()
        return several(args, given.j) if given.j > 1 else work(search, given.trials)
    except ConfigError as error:
        print(f"llmrl tune: {error}", file=sys.stderr)
        return BAD_INPUT


def search_of(given: argparse.Namespace) -> "Search":
    """What the command line asks for, checked. Raises ConfigError."""
    from llmrl.hydra_compose import compose
    from llmrl.objective import LAST, check_objective
    from llmrl.tuning.preset import preset
    from llmrl.tuning.space import parse
    from llmrl.tuning.study import Search, check_optuna

    check_optuna()
    node = compose(given.overrides)
    objective = node.get("objective", LAST)
    check_objective(objective)
    preset(given.overrides, "")  # whether it can be one
    params = parse(given.param, given.overrides)
    folder = Path(os.path.expanduser(node["compute"]["outputs"])) / str(node["study"]) / "tune"
    return Search(folder, tuple(given.overrides), tuple(params), given.seeds or (node["seed"],), objective,
                  not given.no_pruning)  # fmt: skip


def work(search: "Search", trials: int) -> int:
    """One worker, in this process."""
    from llmrl.runs.children import follow_parent
    from llmrl.tuning.study import Worker

    follow_parent()
    worker = Worker(search, trials)
    code = worker.work()
    if (best := worker.best()) is not None:
        print(f"Best: {best.value:.6g} in trial {best.number}: "
              + " ".join(f"{key}={value}" for key, value in best.params.items()))  # fmt: skip
        print(f"  LLMRL_PATH={search.folder} llmrl run experiment=tuned/{search.name}")
    return code


def several(args: list[str], n: int) -> int:
    """So many workers, each a process of this command. The worst of their exit codes."""
    from llmrl.runs.children import PARENT, worst_code

    argv = [sys.executable, "-m", "llmrl", "tune", *args, "-j", "1"]  # of two the last one counts
    variables = os.environ | {PARENT: str(os.getpid()), "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(argv, env=variables, start_new_session=True) for _ in range(n)]

    def forward(signum: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(signum)

    before = {signum: signal.signal(signum, forward) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        codes = [worker.wait() for worker in workers]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return worst_code([code if code >= 0 else 128 - code for code in codes])
