"""log.llm: what a language model answers, and what becomes of it, on the console while a run goes on."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 1.0
WAITING_EVERY_S = 15.0  # between two lines on what is waited for
SHOWN = 4000  # characters of an answer
BESIDE = ("kind", "purpose", "index", "event", "reason", "detail")  # of an event's keys, those that are no facts


class Live:
    """Follows one transcript at a time, in a thread: the run's own, or that of what it builds on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._offset = 0
        self._own = True  # whose waiting is shown by its own progress display
        self._waited_at = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="llm-live")

    def follow(self, path: Path, *, own: bool) -> None:
        """From now on this transcript, from where it stands."""
        with self._lock:
            if path != self._path:
                self._path, self._own = path, own
                self._offset = path.stat().st_size if path.exists() else 0

    def __enter__(self) -> "Live":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(10.0)

    def _follow(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            self._look()
        self._look()

    def _look(self) -> None:
        with self._lock:
            for row in self._new_rows():
                self._waited_at = time.monotonic()
                self._say(text_of(row))
            if not self._own and time.monotonic() - self._waited_at > WAITING_EVERY_S:
                self._waited_at = time.monotonic()
                if waiting := self._waiting():
                    self._say(waiting)

    def _new_rows(self) -> Iterator[dict[str, Any]]:
        """The whole lines that have come since the last look."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def _waiting(self) -> str:
        assert self._path is not None
        try:
            return json.loads(self._path.with_name("status.json").read_text()).get("waiting_for", "")
        except (OSError, ValueError, AttributeError):
            return ""


def text_of(row: dict[str, Any]) -> str:
    """A line of llm.jsonl for a person."""
    name = f"{row['purpose']} {row['index']}"
    match row["kind"]:
        case "call":
            tokens = f"{row['prompt_tokens'] or '?'} tokens read, {row['completion_tokens'] or '?'} written"
            answer = row["answer"] if len(row["answer"]) <= SHOWN else row["answer"][:SHOWN] + " […]"
            lines = "\n".join(f"  | {line}" for line in answer.splitlines())
            return f"\n{name} · {row['served_model']} · {tokens}\n{lines}"
        case "failure":
            return f"  {name}: no answer, {row['reason']}: {row['detail']}"
        case _:
            facts = ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key not in BESIDE)
            why = ": ".join(row[key] for key in ("reason", "detail") if row.get(key))
            return f"  {name}: {row['event']}" + (f", {why}" if why else "") + (f" ({facts})" if facts else "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
