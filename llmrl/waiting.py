"""A command that is silent for three seconds on a terminal says that it works, on what and for how long.

It is one line, which goes away with whatever is printed next. Elsewhere (a file, a pipe) nothing is added.
"""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SILENT_S, EVERY_S = 3.0, 1.0
CLEAR = "\r\x1b[K"
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")  # a progress bar ends by showing the cursor, after its line


class Waiting:
    """The line of a process. `written` is told of all that it prints."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._what, self._shown, self._ended = "working", False, threading.Event()
        self._began = self._last = time.monotonic()
        self._whole = True  # whether the cursor stands at the begin of a line
        self._name = ""

    def begin(self, name: str) -> None:
        """Watches from now on, where stderr is a terminal. `name`: of the command."""
        if sys.stderr.isatty():
            self._name = name
            threading.Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        """Takes the line away, and shows none any more."""
        self._ended.set()
        self.written(b"")

    def written(self, data: bytes | memoryview) -> None:
        """Takes the line away, before `data` is printed to the terminal."""
        with self._lock:
            self._last = time.monotonic()
            if self._shown:
                self._shown = False
                self._write(CLEAR)
            if text := ESCAPE.sub(b"", bytes(data)):
                self._whole = text.endswith((b"\n", b"\r"))

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Inside, the line says `what`."""
        before, self._what, self._began = self._what, what, time.monotonic()
        try:
            yield
        finally:
            self._what, self._began = before, time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Shows the line where nothing was printed for so long."""
        with self._lock:
            if now - self._last >= SILENT_S and self._whole and not self._ended.is_set():
                self._shown = True
                text = f"llmrl {self._name}: {self._what}, {now - self._began:.0f} s"
                self._write(CLEAR + text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a terminal that went away is nobody's trouble
            os.write(2, text.encode())


WAITING = Waiting()
on = WAITING.on
