"""Submitting runs: one function for `llmrl plan --submit` and `llmrl run hydra/launcher=…`, whatever the queue.

    outputs/.jobs/<batch>/tasks.json    the run directories of each task
                         /job.sh        what was handed in (Slurm)
                         /<n>.log       what task n has printed

A run that is submitted has its config.json and the status QUEUED, with the batch and the number of its task; so a run
that is QUEUED and in no queue is LOST, wherever the submission was interrupted, and the same command submits it again.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.clusters.backend import Backend, Entry, Task
from llmrl.clusters.snapshot import environment, freeze
from llmrl.runs.children import prepare_node
from llmrl.runs.files import write_json, writing
from llmrl.runs.identity import DONE, INTERRUPTED, QUEUED, RunDirectory
from llmrl.runs.lease import Held as Owned
from llmrl.runs.lease import Lease

JOBS = ".jobs"
HELD = "SPECIAL_EXIT"
FIRST_LOOK_S, LAST_LOOK_S = 1.0, 30.0  # between looks at the queue; each time half as long again


@dataclass(frozen=True)
class Work:
    """A run that is to be made: its directory, its configuration and identity, and what it builds on."""

    path: Path
    node: Mapping[str, Any]
    identity: Mapping[str, Any]
    after: tuple[Path, ...] = ()
    shared: bool = False  # others build on it, so that several nodes may work on it


@dataclass
class Submitted:
    """What became of the runs of a submission, by their directories."""

    queued: list[Path] = field(default_factory=list)
    released: list[Path] = field(default_factory=list)  # had been held, and start again
    waiting: list[Path] = field(default_factory=list)  # in the queue, or running, before
    done: list[Path] = field(default_factory=list)

    def text(self) -> str:
        parts = {"submitted": self.queued, "released": self.released, "in the queue or running": self.waiting,
                 "done before": self.done}  # fmt: skip
        return ", ".join(f"{len(runs)} {what}" for what, runs in parts.items() if runs) or "nothing to submit"


def submit(works: Sequence[Work], backend: Backend, outputs: Path) -> Submitted:
    """Hands in what is neither done, nor running, nor in the queue; what others build on goes first. Returns at once.

    Args:
        works: every run once, each behind those that it builds on.
        backend: the queue.
        outputs: where runs are kept.

    Raises:
        ConfigError: the queue refuses; runs that were handed in before stay so, and the same command goes on.
    """
    jobs = outputs / JOBS
    with writing(jobs):
        jobs.mkdir(parents=True, exist_ok=True)
    lease = Lease(jobs)
    try:
        lease.acquire()
    except Owned as owned:
        raise ConfigError(f"{jobs}: another submission is under way ({owned}); wait for it") from None
    try:
        return _submit(works, backend, outputs)
    finally:
        lease.release()


def _submit(works: Sequence[Work], backend: Backend, outputs: Path) -> Submitted:
    queue, result = backend.queue() or {}, Submitted()
    handles: dict[Path, list[str]] = {}  # of what is in the queue
    todo: list[Work] = []
    for work in works:
        known = RunDirectory(work.path).status()
        entries = entries_of(known, queue)
        handles[work.path] = [entry.handle for entry in entries]
        if known.get("status") == DONE:
            result.done.append(work.path)
        elif held := [entry.handle for entry in entries if entry.state == HELD]:
            backend.release(held)
            result.released.append(work.path)
        elif entries or RunDirectory(work.path).alive():
            result.waiting.append(work.path)
        else:
            todo.append(work)
    if not todo:
        return result
    backend.check()
    code = environment(freeze(outputs))
    while todo:
        first = todo[0]  # what it builds on is handed in, or done
        group = [work for work in todo if (work.after, work.shared) == (first.after, first.shared)]
        todo = [work for work in todo if (work.after, work.shared) != (first.after, first.shared)]
        after = sorted({handle for path in first.after for handle in handles.get(path, ())})
        handles |= _hand_in(group, backend, outputs, code, after)
        result.queued += [work.path for work in group]
    return result


def _hand_in(
    group: Sequence[Work], backend: Backend, outputs: Path, code: Mapping[str, str], after: Sequence[str]
) -> dict[Path, list[str]]:
    """One batch for each `backend.limit` tasks. Returns the handles of each run."""
    size = backend.limit
    if group[0].shared:  # each alone, on as many nodes as a search may have, which are in one batch
        n = min(backend.settings.nodes_per_search, backend.limit)
        tasks = [[work] for work in group for _ in range(n)]
        size -= size % n
    else:
        n = backend.settings.runs_per_task
        tasks = [list(group[i : i + n]) for i in range(0, len(group), n)]
    handles: dict[Path, list[str]] = {work.path: [] for work in group}
    for start in range(0, len(tasks), size):
        part = tasks[start : start + size]
        batch = outputs.absolute() / JOBS / f"{time.strftime('%m%d-%H%M')}-{secrets.token_hex(4)}"
        with writing(batch):
            batch.mkdir(parents=True)
        write_json(batch / "tasks.json", [[str(work.path) for work in task] for task in part])
        numbers: dict[Path, list[int]] = {}
        for number, task in enumerate(part):
            for work in task:
                prepare_node(work.path, work.node)
                if not (work.path / "identity.json").exists():  # by which tables find it
                    write_json(work.path / "identity.json", work.identity)
                numbers.setdefault(work.path, []).append(number)
        for work in {work.path: work for task in part for work in task}.values():
            job = {"backend": backend.name, "batch": batch.name, "tasks": numbers[work.path],
                   "after": [str(path) for path in work.after]}  # fmt: skip
            RunDirectory(work.path).set_status(QUEUED, job=job)
        try:
            made = backend.submit(batch, len(part), code, after)
        except ConfigError as error:
            for path in numbers:
                RunDirectory(path).set_status(INTERRUPTED, reason=f"not submitted: {error}", job=None)
            raise
        for path, own in numbers.items():
            handles[path] += [made[number] for number in own]
    return handles


def wait(paths: Sequence[Path], backend: Backend) -> None:
    """Returns once none of the runs is in the queue any more, but for those that are held."""
    pause_s = FIRST_LOOK_S
    while True:
        queue = backend.queue() or {}
        entries = [entry for path in paths for entry in entries_of(RunDirectory(path).status(), queue)]
        if all(entry.state == HELD for entry in entries):
            return
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LAST_LOOK_S)


def tasks_of(status: Mapping[str, Any]) -> list[Task]:
    """The tasks that a run was submitted as, by its status.json; none where it was not."""
    job = status.get("job") or {}
    return [(job["batch"], number) for number in job.get("tasks", ())]


def entries_of(status: Mapping[str, Any], queue: Mapping[Task, Entry]) -> list[Entry]:
    """Those of a run's tasks that are in the queue."""
    return [queue[task] for task in tasks_of(status) if task in queue]
