"""The page's table of answers: how many of a model's answers could be used, and why the others could not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import sha256

from llmrl.contracts.report import times
from llmrl.intervals import share
from llmrl.llm.transcript import ReplayError, Transcript
from llmrl.report.page.html import Cell, number, table, whole
from llmrl.report.store.groups import Group
from llmrl.report.store.record import RunRecord

CAPTION = (
    "How many answers passed the method's checks, by model and kind of call, with the 95 % interval (Wilson) of that "
    "share, and why the others did not. Runs that share a search count its answers once."
)
HEADS = ("model", "env", "call", "answers", "accepted", "share", "95 %", "rejected as")


def acceptance(runs: Sequence[tuple[Group, RunRecord]]) -> str:
    """A row for each model, environment and kind of call. Transcripts that are damaged are left out here."""
    verdicts: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)  # "" or the reason, of each answer
    known: set[str] = set()
    for group, run in runs:
        path = run.path / "llm.jsonl"
        if not path.exists() or (content := sha256(path.read_bytes()).hexdigest()) in known:
            continue
        known.add(content)
        try:
            transcript = Transcript(path, read_only=True)
        except (ReplayError, KeyError, TypeError):
            continue
        for (purpose, index, kind), event in transcript.events.items():
            if kind in ("accepted", "rejected") and (call := transcript.calls.get((purpose, index))) is not None:
                verdicts[call["served_model"], group.env, purpose].append(event.get("reason", ""))
    rows = [_row(*key, found) for key, found in sorted(verdicts.items())]
    return table("answers-table", CAPTION, HEADS, rows, "answers|accepted|share")


def _row(model: str, env: str, purpose: str, reasons: Sequence[str]) -> list[Cell]:
    used = [not reason for reason in reasons]
    p, low, high = share(used)
    interval = "" if low is None else f"{low:.2f} to {high:.2f}"
    rejected = times(dict(Counter(reason for reason in reasons if reason).most_common()))
    return [
        Cell(model), Cell(env), Cell(purpose), whole(len(used)), whole(sum(used)), number(p, 2), Cell(interval),
        Cell(", ".join(rejected) or "none"),
    ]  # fmt: skip
