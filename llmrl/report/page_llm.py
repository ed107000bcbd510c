"""What the page holds of an LLM's transcripts: as data, that page.js turns into text when someone unfolds it."""

from collections.abc import Callable, Sequence
from typing import Any

from llmrl.llm.transcript import Transcript
from llmrl.report.refreshes import Refresh, action_names, refreshes, vector_name
from llmrl.report.store import RunRecord

MAX_SHOWN = 200  # calls and episodes of a run: the first and the last hundred
MAX_TEXT = 6_000  # characters of one message or answer
LIMITS = (
    f"Of a run the first and last {MAX_SHOWN // 2} calls and episodes are here, of a text {MAX_TEXT:,} characters; "
    "its llm.jsonl holds all."
)


def llm_data(record: RunRecord) -> dict[str, Any] | None:
    """Calls and episodes of a run, as plain values; None where it has asked no LLM. Raises DamagedFile or ReplayError
    where metrics.jsonl or llm.jsonl is corrupt."""
    path = record.path / "llm.jsonl"
    if not path.exists():
        return None
    transcript = Transcript(path, read_only=True)
    if not transcript.calls:
        return None
    texts: dict[str, int] = {}  # each once: most calls share their system message
    calls = _ends(list(transcript.calls.values()), "calls", lambda call: _call(call, transcript, texts))
    asked = [r for r in refreshes(record) if r.shown]
    n = next((len(r.vector) for r in asked if r.vector), 0)
    return {
        "calls": calls, "texts": list(texts), "n_calls": len(transcript.calls), "n_episodes": len(asked),
        "episodes": _ends(asked, "episodes", _episode), "vector": vector_name(record),
        "actions": action_names(record, n),
    }  # fmt: skip


def _ends(rows: Sequence[Any], what: str, make: Callable[[Any], dict]) -> list[dict]:
    """The first and the last of many rows, and between them how many are not shown."""
    half, left_out = MAX_SHOWN // 2, len(rows) - MAX_SHOWN
    if left_out <= 0:
        return [make(row) for row in rows]
    gap = {"gap": f"… {left_out:,} {what} in between are not shown here; llm.jsonl holds them"}
    return [*map(make, rows[:half]), gap, *map(make, rows[-half:])]


def _call(call: dict, transcript: Transcript, texts: dict[str, int]) -> dict[str, Any]:
    key = call["purpose"], call["index"]
    failures = transcript.failures.get(key, [])
    failed = [f"attempt without an answer: {row['reason']}: {row['detail']}" for row in failures]
    events = [row for (*of, _), row in transcript.events.items() if tuple(of) == key]
    known = ("kind", "purpose", "index", "event")
    verdicts = [" ".join([e["event"], *(f"{k}: {v}" for k, v in e.items() if k not in known)]) for e in events]
    known_tokens = call["prompt_tokens"] is not None
    tokens = f"{call['prompt_tokens']}+{call['completion_tokens']} tokens" if known_tokens else "tokens unknown"
    usd = "price unknown" if call["usd"] is None else f"{call['usd']:.5f} USD"
    title = " · ".join([*key, call["served_model"], tokens, usd, *(e["event"] for e in events)])
    messages = [[m["role"], _noted(_content(m["content"]), texts)] for m in call["messages"]]
    return {"title": title, "messages": messages, "answer": _noted(call["answer"], texts), "after": failed + verdicts}


def _content(content: Any) -> str:
    """A message's text; of a message in parts, images are named only."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", f"[{part.get('type', 'part')}]")) for part in content)


def _noted(text: str, texts: dict[str, int]) -> int:
    return texts.setdefault(_cut(text), len(texts))


def _cut(text: str) -> str:
    rest = len(text) - MAX_TEXT
    return text if rest <= 0 else f"{text[:MAX_TEXT]}\n… {rest:,} more characters are in llm.jsonl"


def _episode(refresh: Refresh) -> dict[str, Any]:
    return {
        "episode": refresh.episode, "env_steps": refresh.env_steps, "return": refresh.episode_return,
        "shown": _cut(refresh.shown), "description": _cut(refresh.description),
        "answers": [_cut(answer) for answer in refresh.answers], "rejected": refresh.rejected, "vector": refresh.vector,
    }  # fmt: skip
