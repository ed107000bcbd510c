"""How submitted runs stand: what their directories say, and what the queue says."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.clusters.backend import Entry, Task, queue_of
from llmrl.clusters.submit import HELD, JOBS, entries_of
from llmrl.runs.identity import DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RunDirectory

LOST = "LOST"  # submitted, and in no queue any more
ELSEWHERE = "the queue cannot be asked from here"
Queues = dict[str, Mapping[Task, Entry] | None]  # by the name of the backend; None: it cannot be asked from here


def queues(statuses: Iterable[Mapping[str, Any]]) -> Queues:
    """The queues in which some of these runs may be, each asked once."""
    names = {status["job"]["backend"] for status in statuses
             if status.get("job") and status.get("status") in (QUEUED, INTERRUPTED, PAUSED)}  # fmt: skip
    found: Queues = {}
    for name in names:
        try:
            found[name] = queue_of(name).queue()
        except (ConfigError, ImportError):
            found[name] = None
    return found


def standing(status: Mapping[str, Any], asked: Queues) -> tuple[str, str]:
    """The status of a submitted run, and its reason; LOST and SPECIAL_EXIT beside those of runs/identity.py."""
    name, reason = str(status["status"]), str(status.get("reason") or status.get("waiting_for") or "")
    job = status["job"]
    if name not in (QUEUED, INTERRUPTED, PAUSED):
        return name, reason
    if (queue := asked.get(job["backend"])) is None:
        return name, reason or (ELSEWHERE if name == QUEUED else "")
    entries = entries_of(status, queue)
    if any(entry.state == HELD for entry in entries):
        return HELD, f"{reason or 'held'}; the same submission lets it go on"
    if entries:
        waits = ", ".join(sorted({entry.reason or entry.state.lower() for entry in entries}))
        return QUEUED, waits if name == QUEUED else f"again, after {reason}: {waits}"
    return (LOST, why_lost(job)) if name == QUEUED else (name, reason)


def why_lost(job: Mapping[str, Any]) -> str:
    """Why a run that was submitted will never start."""
    for path in job.get("after", ()):
        built_on = RunDirectory(Path(path)).status()
        if built_on.get("status") == FAILED:
            return f"what it builds on has failed: {path}: {built_on.get('reason', '')}"
        if built_on.get("status") != DONE:
            return f"what it builds on is not done: {path}: {built_on.get('status', 'not begun')}"
    return f"it is in no queue any more (log: {JOBS}/{job['batch']}/); the same submission hands it in again"
