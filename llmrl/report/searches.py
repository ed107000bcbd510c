"""What a LESR search tried, rejected and chose, as a final run's transcript tells it."""

from dataclasses import dataclass

from llmrl.llm.transcript import Transcript
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
        features, trained = events.get("accepted", {}).get("features"), events.get("trained", {})
        failed = trained.get("failed", "")
        outcome = "failed" if failed else "chosen" if index == result["lesr"]["chosen"] else "trained"
        found.append(Tried(index, outcome, failed, features, trained.get("score")))
    return found
