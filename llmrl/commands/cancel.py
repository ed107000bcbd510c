"""llmrl cancel <run or directory> …

Stops runs: those below each directory that are in a cluster's queue, or run on this machine. Who runs writes a
checkpoint first, so the same command, or the same submission, goes on later; who waits leaves the queue. Runs that
share a task (hydra.launcher.runs_per_task) are stopped together.
"""

import argparse
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.runs.identity import INTERRUPTED, QUEUED, RUNNING, RunDirectory
from llmrl.runs.lease import place

BAD_INPUT = 2


def main(args: list[str]) -> int:
    from llmrl.commands.status import run_directories

    parser = argparse.ArgumentParser("llmrl cancel", add_help=False)
    parser.add_argument("directories", type=Path, nargs="+")
    roots = parser.parse_args(args).directories
    if gone := [root for root in roots if not root.is_dir()]:
        print(f"llmrl cancel: there is no directory {gone[0]}", file=sys.stderr)
        return BAD_INPUT
    runs = [RunDirectory(path) for root in roots for path in run_directories(root)]
    try:
        waiting, running = _in_queues(runs)
    except ConfigError as error:
        print(f"llmrl cancel: {error}", file=sys.stderr)
        return BAD_INPUT
    local, elsewhere = _here([run for run in runs if run.path not in {*waiting, *running}])
    print(f"Cancelled: {len(waiting)} that waited, {len(running) + len(local)} that run and checkpoint first.")
    for path, owner in elsewhere:
        print(f"{path} runs on {owner.get('host', 'another machine')}, pid {owner.get('pid', '?')}: stop it there.")
    return 0


def _in_queues(runs: list[RunDirectory]) -> tuple[list[Path], list[Path]]:
    """Cancels what is in a queue; (those that waited, those that ran)."""
    from llmrl.clusters.backend import Entry, Task, queue_of
    from llmrl.clusters.submit import JOBS, tasks_of

    submitted = defaultdict(list)
    for run in runs:
        if (job := (known := run.status()).get("job")) is not None:
            submitted[job["backend"]].append((run, known))
    waited, ran = [], []
    for name, own in submitted.items():
        backend = queue_of(name)
        queue = backend.queue() or {}
        entries: dict[Task, Entry] = {}
        for run, known in own:
            there = {task: queue[task] for task in tasks_of(known) if task in queue}
            for batch, number in there:
                _jobs_of(run.path, JOBS, batch).joinpath(f"{number}.cancelled").touch()
            entries |= there
            if there and (known["status"] == RUNNING or any(entry.state == "RUNNING" for entry in there.values())):
                ran.append(run.path)
            elif there:
                waited.append(run.path)
        backend.cancel(list(entries.values()))
        for run, known in own:
            if run.path in waited and known["status"] in (QUEUED, INTERRUPTED):
                run.set_status(INTERRUPTED, reason="cancelled")
    return waited, ran


def _jobs_of(run: Path, jobs: str, batch: str) -> Path:
    """outputs/.jobs/<batch>, above the run."""
    above = run.absolute().parents
    return next((root / jobs / batch for root in above if (root / jobs / batch).is_dir()), run)


def _here(runs: list[RunDirectory]) -> tuple[list[Path], list[tuple[Path, dict]]]:
    """Sends SIGTERM to those that run on this machine; (they, those that run elsewhere)."""
    stopped, elsewhere = [], []
    for run in runs:
        if (owner := run.owner()) is None:
            continue
        if owner.get("place") == place():
            os.kill(owner["pid"], signal.SIGTERM)
            stopped.append(run.path)
        else:
            elsewhere.append((run.path, owner))
    return stopped, elsewhere
