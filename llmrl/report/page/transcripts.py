"""Transcripts and what unfolds beside them, as data that page.js turns into text when someone unfolds it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmrl.contracts.report import Details, PaperReport, Value
from llmrl.llm.transcript import Key, Transcript
from llmrl.papers import asked
from llmrl.report.store.record import RunRecord

MAX_ROWS = 200  # calls of a run, rows of details: the first and the last hundred
MAX_TEXT = 6_000  # characters of one text
LIMITS = (
    f"Of each run the first and last {MAX_ROWS // 2} calls and rows, of each text {MAX_TEXT:,} characters; llm.jsonl "
    "holds everything."
)


def llm_data(record: RunRecord) -> dict[str, Any] | None:
    """The calls of a run, as plain values; None where it has asked no LLM. Raises ReplayError where llm.jsonl is
    corrupt."""
    path = record.path / "llm.jsonl"
    if not path.exists():
        return None
    transcript = Transcript(path, read_only=True)
    if not transcript.calls:
        return None
    texts: dict[str, int] = {}  # each once: most calls share their system message
    calls = _ends(list(transcript.calls.values()), "calls", lambda call: _call(call, transcript, texts))
    return {"calls": calls, "texts": list(texts), "n_calls": len(transcript.calls)}


def details_of(record: RunRecord, papers: Mapping[str, PaperReport]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the papers unfold beside the transcript, as plain values, and why one of them cannot."""
    return asked(papers, "details", lambda report: [_plain(one) for one in [report.details(record)] if one])


def _plain(details: Details) -> dict[str, Any]:
    def plain(value: Value) -> Any:
        return _cut(value) if isinstance(value, str) else value

    rows = _ends(details.rows, "rows", lambda row: {"cells": list(map(plain, row))})
    return {"title": details.title, "columns": [column._asdict() for column in details.columns], "rows": rows}


def _ends(rows: Sequence[Any], what: str, make: Callable[[Any], dict]) -> list[dict]:
    """The first and the last of many rows, and between them how many are left out."""
    half, left_out = MAX_ROWS // 2, len(rows) - MAX_ROWS
    if left_out <= 0:
        return [make(row) for row in rows]
    gap = {"gap": f"… {left_out:,} {what} in between are left out; llm.jsonl holds them"}
    return [*map(make, rows[:half]), gap, *map(make, rows[-half:])]


def _call(call: dict, transcript: Transcript, texts: dict[str, int]) -> dict[str, Any]:
    key = call["purpose"], call["index"]
    events = events_of(key, transcript)
    known_tokens = call["prompt_tokens"] is not None
    tokens = f"{call['prompt_tokens']}+{call['completion_tokens']} tokens" if known_tokens else "tokens unknown"
    usd = "price unknown" if call["usd"] is None else f"{call['usd']:.5f} USD"
    title = " · ".join([*key, call["served_model"], tokens, usd, *(e["event"] for e in events)])
    messages = [[m["role"], _noted(content(m["content"]), texts)] for m in call["messages"]]
    return {
        "title": title,
        "messages": messages,
        "answer": _noted(call["answer"], texts),
        "after": afterwards(key, transcript),
    }


def events_of(key: Key, transcript: Transcript) -> list[dict]:
    """What was recorded beside a call."""
    return [row for (*of, _), row in transcript.events.items() if tuple(of) == key]


def afterwards(key: Key, transcript: Transcript) -> list[str]:
    """A line for each failed attempt at a call, and for each event."""
    failures = transcript.failures.get(key, [])
    failed = [f"attempt without an answer: {row['reason']}: {row['detail']}" for row in failures]
    known = ("kind", "purpose", "index", "event")
    events = events_of(key, transcript)
    return failed + [" ".join([e["event"], *(f"{k}: {v}" for k, v in e.items() if k not in known)]) for e in events]


def content(message: Any) -> str:
    """A message's text; of a message in parts, images by their type alone."""
    if isinstance(message, str):
        return message
    return "\n".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in message)


def _noted(text: str, texts: dict[str, int]) -> int:
    return texts.setdefault(_cut(text), len(texts))


def _cut(text: str) -> str:
    rest = len(text) - MAX_TEXT
    return text if rest <= 0 else f"{text[:MAX_TEXT]}\n… {rest:,} more characters are in llm.jsonl"
