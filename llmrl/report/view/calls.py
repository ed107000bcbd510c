"""A run's transcript: its calls by purpose, verdict and text, and one of them whole."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmrl.llm.transcript import Transcript
from llmrl.report.page.transcripts import afterwards, content

PAGE = 100  # calls that are listed at once
UNANSWERED = "no answer"


@dataclass(frozen=True)
class Call:
    """One call, or what was asked so far in vain."""

    number: int  # in the file's order, from 0
    purpose: str
    index: str
    verdict: str  # accepted, rejected, "no answer", or "" before there is one
    reason: str  # of a rejection, or of the newest failed attempt
    row: dict  # {} where there is no answer

    def holds(self, words: list[str]) -> bool:
        """Whether all words stand in what was asked and answered."""
        asked = [content(message["content"]) for message in self.row.get("messages", ())]
        text = "\n".join([*asked, self.row.get("answer", ""), self.purpose, self.index, self.reason]).lower()
        return all(word in text for word in words)

    def listed(self) -> dict[str, Any]:
        """Without its texts."""
        line = next((line.strip() for line in self.row.get("answer", "").splitlines() if line.strip()), "")
        return {
            "number": self.number, "purpose": self.purpose, "index": self.index, "verdict": self.verdict,
            "reason": self.reason, "model": self.row.get("served_model", ""), "usd": self.row.get("usd"),
            "prompt_tokens": self.row.get("prompt_tokens"), "completion_tokens": self.row.get("completion_tokens"),
            "begin": line[:160],
        }  # fmt: skip


def transcript_at(path: Path) -> Transcript:
    """The transcript of a run, read once while it stays as it is. Raises ReplayError, OSError."""
    file = path / "llm.jsonl"
    info = file.stat()
    return _read(file, info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, size: int, changed: int) -> Transcript:
    return Transcript(file, read_only=True)


def calls_of(transcript: Transcript) -> Iterator[Call]:
    """All calls, and what was asked in vain so far, in the order of the first line about each."""
    keys = dict.fromkeys((row["purpose"], row["index"]) for row in transcript.rows)
    for number, (purpose, index) in enumerate(keys):
        row = transcript.calls.get((purpose, index), {})
        rejected = transcript.events.get((purpose, index, "rejected"))
        if rejected:
            verdict, reason = "rejected", f"{rejected.get('reason', '')}: {rejected.get('detail', '')}"
        elif not row:
            failures = transcript.failures.get((purpose, index)) or [{}]
            verdict, reason = UNANSWERED, f"{failures[-1].get('reason', '')}: {failures[-1].get('detail', '')}"
        else:
            verdict, reason = "accepted" if (purpose, index, "accepted") in transcript.events else "", ""
        yield Call(number, purpose, index, verdict, reason.strip(": "), row)


def listed(transcript: Transcript, purpose: str, verdict: str, text: str, begin: int) -> dict[str, Any]:
    """Calls of a purpose and verdict ("": any) that hold all words of `text`, PAGE of them from the begin-th on."""
    every = list(calls_of(transcript))
    words = text.lower().split()
    found = [call for call in every if purpose in ("", call.purpose) and verdict in ("", call.verdict or "none")]
    if words:
        found = [call for call in found if call.holds(words)]
    return {
        "total": len(every), "matching": len(found), "begin": begin, "size": PAGE,
        "purposes": Counter(call.purpose for call in every),
        "verdicts": Counter(call.verdict or "none" for call in every),
        "calls": [call.listed() for call in found[begin : begin + PAGE]],
    }  # fmt: skip


def whole(transcript: Transcript, number: int) -> dict[str, Any] | None:
    """One call with all its texts; None where there is none of this number."""
    call = next((call for call in calls_of(transcript) if call.number == number), None)
    if call is None:
        return None
    messages = [[message["role"], content(message["content"])] for message in call.row.get("messages", ())]
    after = afterwards((call.purpose, call.index), transcript)
    return {"messages": messages, "answer": call.row.get("answer"), "after": after}
