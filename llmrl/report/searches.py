"""What a LESR search tried, rejected and chose, as a final run's transcript tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.llm.transcript import Transcript
from llmrl.report.groups import Group
from llmrl.report.store import RunRecord

SAMPLE = "lesr.sample"


@dataclass(frozen=True)
class Tried:
    """One program of a search."""

    index: str  # iteration/sample/attempt
    outcome: str  # rejected, failed, trained or chosen
    reason: str  # of the former two
    features: int | None  # dimensions that it adds
    score: float | None  # mean of its last evaluations
    lipschitz: tuple[float, ...] = ()  # of its training: a constant per dimension, source first, then added ones
    ignored: tuple[int, ...] = ()  # added dimensions that its intrinsic reward does not depend on


def shared(groups: Sequence[Group]) -> dict[str, tuple[Group, RunRecord]]:
    """{the search's directory: a run that used it, with its group}; a search that several runs share stands once."""
    found: dict[str, tuple[Group, RunRecord]] = {}
    for group in groups:
        for run in group.runs:
            if run.result and "lesr" in run.result:
                found.setdefault(run.result["lesr"]["search"], (group, run))
    return found


def tried(record: RunRecord) -> list[Tried]:
    """All programs that a run's search asked for, in order; none where the run has no search. Raises ReplayError where
    llm.jsonl is corrupt."""
    path, result = record.path / "llm.jsonl", record.result or {}
    if "lesr" not in result or not path.exists():
        return []
    transcript = Transcript(path, read_only=True)
    found = []
    for purpose, index in transcript.calls:
        if purpose != SAMPLE:
            continue
        events = {e["event"]: e for (p, i, _), e in transcript.events.items() if (p, i) == (purpose, index)}
        if rejected := events.get("rejected"):
            found.append(Tried(index, "rejected", f"{rejected['reason']}: {rejected['detail']}", None, None))
            continue
        accepted, trained = events.get("accepted", {}), events.get("trained", {})
        failed = trained.get("failed", "")
        outcome = "failed" if failed else "chosen" if index == result["lesr"]["chosen"] else "trained"
        constants, ignored = tuple(trained.get("lipschitz", ())), tuple(accepted.get("ignored", ()))
        found.append(Tried(index, outcome, failed, accepted.get("features"), trained.get("score"), constants, ignored))
    return found
