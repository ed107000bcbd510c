"""What a search asked for and what became of it, out of a finished run's files, for reports: without torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmrl.llm.transcript import Transcript

if TYPE_CHECKING:
    from llmrl.report.store.groups import Group
    from llmrl.report.store.record import RunRecord

Events = Mapping[str, Mapping[str, Any]]  # accepted, rejected, trained: what was recorded beside a call


def searches(groups: Sequence["Group"], paper: str) -> dict[str, tuple["Group", "RunRecord"]]:
    """{the search's directory: a run that used it, with its group}; a search that several runs share counts once."""
    found: dict[str, tuple[Group, RunRecord]] = {}
    for group in groups:
        for run in group.runs:
            if run.result and paper in run.result:
                found.setdefault(run.result[paper].get("search", str(run.path)), (group, run))
    return found


def verdicts(record: "RunRecord", purpose: str) -> Iterator[tuple[str, Events]]:
    """(index, events) of each call for a program, in order. Raises ReplayError where llm.jsonl is corrupt."""
    path = record.path / "llm.jsonl"
    if not path.exists():
        return
    transcript = Transcript(path, read_only=True)
    for found, index in transcript.calls:
        if found == purpose:
            events = {e["event"]: e for (p, i, _), e in transcript.events.items() if (p, i) == (purpose, index)}
            yield index, events


def outcome(index: str, events: Events, chosen: str) -> tuple[str, str]:
    """(rejected, failed, chosen or trained; the reason of the former two)."""
    if rejected := events.get("rejected"):
        return "rejected", f"{rejected['reason']}: {rejected['detail']}"
    if failed := events.get("trained", {}).get("failed", ""):
        return "failed", failed
    return ("chosen" if index == chosen else "trained"), ""
