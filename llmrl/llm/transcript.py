"""llm.jsonl: every call, failed attempt and verdict of a run, a line of JSON each. It only grows, and can be
replayed.

Three kinds of line, none with a clock time in it, so that a replayed run writes the same bytes:
call     purpose, index, messages, answer (thoughts included, keys not), model, served_model, prompt_tokens,
         completion_tokens, usd, finish_reason
failure  purpose, index, reason, detail      one attempt that brought no answer
event    purpose, index, event, …            what was made of an answer: accepted, or rejected and why; of an answer
                                             for which training did not wait: applied or dropped, and at which env_steps
"""

import difflib
import json
import os
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from llmrl.runs.files import writing

Key = tuple[str, str]  # (purpose, index)
COMPARED = 1000  # lines of a message that are looked at for how it differs


class ReplayError(Exception):
    """The recorded answers do not fit what is asked now."""


class ReplayMismatch(ReplayError):
    """A recorded (purpose, index) is asked again with other messages, or comes to another verdict."""


class ReplayMissing(ReplayError):
    """The recording holds no answer for what is asked."""


class Transcript:
    """The lines of one llm.jsonl. `read_only` opens a recording: nothing is written, a torn last line is passed over.

    A job (llm/job.py) writes from a thread of its own; `lock` keeps several lines together.

    Raises ReplayError where a line in the middle is no JSON, OSError where the file cannot be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.rows: list[dict] = []  # all of them, as they stand in the file
        self.calls: dict[Key, dict] = {}
        self.failures: defaultdict[Key, list[dict]] = defaultdict(list)
        self.events: dict[tuple[str, str, str], dict] = {}
        raw = path.read_bytes() if read_only or path.exists() else b""
        self._size = self._load(raw)
        self._fd: int | None = None
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._fd, self._size)  # drops the torn last line of a killed writer

    def close(self) -> None:
        """Close the file; what was recorded stays readable."""
        with self.lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def find(self, purpose: str, index: str, messages: list[dict]) -> dict | None:
        """The recorded call, or None. Raises ReplayMismatch where it was asked with other messages."""
        row = self.calls.get((purpose, index))
        if row is not None and row["messages"] != messages:
            raise ReplayMismatch(
                f"{self.path}: the call {purpose} {index} was recorded with other messages than are asked now, so its "
                "answer does not belong here. The code, a prompt, the seed or a setting has changed since it was "
                "recorded: use the version and settings that recorded it, or start a new run.\n"
                + _difference(row["messages"], messages)
            )
        return row

    def call(self, row: dict) -> None:
        """Record an answered call (the keys of a call line, without kind)."""
        self._append({"kind": "call", **row})

    def failure(self, purpose: str, index: str, reason: str, detail: str) -> None:
        """Record an attempt that brought no answer."""
        self._append({"kind": "failure", "purpose": purpose, "index": index, "reason": reason, "detail": detail})

    def event(self, purpose: str, index: str, event: str, **facts: Any) -> None:
        """Record what was made of an answer. Said again on resume it is not doubled; said otherwise: ReplayMismatch."""
        row = {"kind": "event", "purpose": purpose, "index": index, "event": event, **facts}
        with self.lock:
            known = self.events.get((purpose, index, event))
            if known is None:
                self._append(row)
            elif _line(known) != _line(row):
                raise ReplayMismatch(
                    f"{self.path}: {purpose} {index} was recorded as {_line(known).decode().strip()}\n"
                    f"but now comes out as {_line(row).decode().strip()}"
                )

    def copy(self, recording: "Transcript", purpose: str, index: str) -> None:
        """Take over a call of a recording, with the failed attempts before it that are not here yet."""
        key = purpose, index
        for row in recording.failures[key][len(self.failures[key]) :]:
            self._append(row)
        self._append(recording.calls[key])

    def copy_rest(self, recording: "Transcript") -> None:
        """Take over all that a recording holds beyond what is here, which is how the recording begins."""
        for row in recording.rows[len(self.rows) :]:
            self._append(row)

    def usage(self) -> dict[str, Any]:
        """Calls, tokens, usd (None where the price of a call is not known), calls without, failures and rejections by
        reason."""
        with self.lock:
            calls = list(self.calls.values())
            reasons = Counter(row["reason"] for rows in self.failures.values() for row in rows)
            rejected = Counter(row["reason"] for row in self.events.values() if row["event"] == "rejected")
        return {
            "calls": len(calls),
            "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in calls),
            "completion_tokens": sum(row["completion_tokens"] or 0 for row in calls),
            "usd": None if any(row["usd"] is None for row in calls) else sum(row["usd"] for row in calls),
            "calls_without_price": sum(row["usd"] is None for row in calls),
            "failures": dict(sorted(reasons.items())),
            "rejected": dict(sorted(rejected.items())),
        }

    def holdings(self) -> str:
        """What there is, for error messages: purposes with their number of calls, first and last index."""
        if not self.calls:
            return "no call at all"
        indices: defaultdict[str, list[str]] = defaultdict(list)
        for purpose, index in self.calls:
            indices[purpose].append(index)
        return "; ".join(f"{name}: {len(all_)} calls, {all_[0]} to {all_[-1]}" for name, all_ in indices.items())

    def _load(self, raw: bytes) -> int:
        """Keep every whole line; returns the number of bytes they take."""
        lines = raw.splitlines(keepends=True)
        size = 0
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if row is None:
                if number == len(lines):
                    return size
                raise ReplayError(f"{self.path}, line {number}: no JSON. Repair or remove that line.")
            self._keep(row)
            size += len(line)
        return size

    def _append(self, row: dict) -> None:
        line = _line(row)
        with self.lock:
            if self._fd is None:
                raise ReplayError(f"{self.path} is closed or was opened to be read only.")
            with writing(self.path):
                try:
                    view = memoryview(line)
                    while view:
                        view = view[os.write(self._fd, view) :]
                    os.fsync(self._fd)
                except OSError:  # a full disk: leave no half line behind
                    os.ftruncate(self._fd, self._size)
                    raise
            self._size += len(line)
            self._keep(json.loads(line))  # as it will be read back, so that a resumed run sees the very same

    def _keep(self, row: dict) -> None:
        self.rows.append(row)
        key = row["purpose"], row["index"]
        if row["kind"] == "call":
            self.calls[key] = row
        elif row["kind"] == "failure":
            self.failures[key].append(row)
        else:
            self.events[*key, row["event"]] = row


def _line(row: dict) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"  # ASCII: an answer may hold lone surrogates


def _difference(recorded: list[dict], asked: list[dict], *, limit: int = 30) -> str:
    def lines(messages: list[dict]) -> list[str]:
        return [f"[{m['role']}] {line}"[:200] for m in messages for line in str(m["content"]).splitlines()[:COMPARED]]

    diff = list(difflib.unified_diff(lines(recorded), lines(asked), "recorded", "asked now", lineterm="", n=1))
    rest = [f"… {len(diff) - limit} more lines"] if len(diff) > limit else []
    return "\n".join(diff[:limit] + rest)
