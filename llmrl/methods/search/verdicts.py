"""What a search asked for and what became of it, out of a finished run's files, for reports: without torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmrl.contracts.report import Program
from llmrl.llm.program_text import extract
from llmrl.llm.sandbox import SandboxFailure
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


def programs(
    record: "RunRecord", purpose: str, functions: Sequence[str], series: Callable[[str], tuple[str, int]],
    *, chosen: str = "", training: Callable[[str], str] = lambda index: "",
) -> Iterator[Program]:  # fmt: skip
    """The programs of the calls of a purpose, also of an unfinished run. Raises ReplayError where llm.jsonl is corrupt.

    Args:
        functions: what a program has to define.
        series: the series and the iteration of a call's index.
        chosen: the index of the program that the search chose.
        training: the directory of a call's training.
    """
    path = record.path / "llm.jsonl"
    if not path.exists():
        return
    answers = Transcript(path, read_only=True).calls
    for index, events in verdicts(record, purpose):
        state, reason = outcome(index, events, chosen) if events else ("", "")
        facts = events.get("trained", {})
        score = facts.get("score", events.get("scored", {}).get("stochastic"))
        answer = answers[purpose, index]["answer"]
        try:
            code = extract(answer, functions)
        except SandboxFailure:
            code = answer
        where = training(index) if "accepted" in events else ""
        yield Program(purpose, index, *series(index), state, reason, None if reason else score, code, where)


def outcome(index: str, events: Events, chosen: str) -> tuple[str, str]:
    """(rejected, failed, chosen, trained, or accepted without a training; the reason of the former two)."""
    if rejected := events.get("rejected"):
        return "rejected", f"{rejected['reason']}: {rejected['detail']}"
    if failed := events.get("trained", {}).get("failed", ""):
        return "failed", failed
    if index == chosen:
        return "chosen", ""
    return ("trained" if "trained" in events else "accepted"), ""
