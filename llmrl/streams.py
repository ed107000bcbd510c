"""What is printed must never decide what becomes of a run: standard streams whose writes never raise.

`llmrl`, and the processes of its pools, put them in the place of sys.stdout and sys.stderr at their entry. So prints,
progress bars, warnings, logging and tracebacks go through them, ours and every library's: no reader that has left, full
disk, vanished terminal or character that cannot be encoded is anybody's exception. A command whose product is what it
prints asks `lost` in the end.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

from llmrl.waiting import WAITING

PATIENCE_MS = 10_000  # for a reader that does not read, such as a stopped terminal
TOTAL = ("backslashreplace", "ignore", "namereplace", "replace", "xmlcharrefreplace")  # they know every character


class Descriptor(io.RawIOBase):
    """A file descriptor whose writes never raise. The first error is kept; each later write tries again.

    `patient`: a reader that does not read is waited for without end. Else what it does not take in time is dropped.
    """

    def __init__(self, fd: int, name: str, *, patient: bool, error: OSError | None = None) -> None:
        self.name, self.mode, self.error = name, "w", error
        self._fd, self._patient, self._stalled = fd, patient, False
        self._terminal = os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        if self._terminal:
            WAITING.written(left)
        try:
            while left and self._ready():
                with suppress(BlockingIOError):
                    left = left[os.write(self._fd, left[: select.PIPE_BUF]) :]  # so much a ready pipe takes at once
        except OSError as error:
            self.error = self.error or error
        return size

    def _ready(self) -> bool:
        if self._fd < 0:
            return False
        wait_ms = None if self._patient else 0 if self._stalled else PATIENCE_MS
        self._stalled = not self._poll.poll(wait_ms)
        return not self._stalled

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def end(self) -> None:
        """Drops what is written from now on: the descriptor may soon be another file's."""
        self._fd = -1


class Streams:
    """sys.stdout and sys.stderr while they are ours."""

    def __init__(self, *, patient: bool) -> None:
        _open_all()
        self._before = sys.stdout, sys.stderr
        sys.stdout = _replacement(sys.stdout, 1, "<stdout>", patient)
        sys.stderr = _replacement(sys.stderr, 2, "<stderr>", patient)
        self._ours = sys.stdout, sys.stderr

    def lost(self) -> OSError | None:
        """Why not all that was printed to stdout is written; None where it is, or where its reader had seen enough."""
        self._ours[0].flush()
        error = getattr(getattr(self._ours[0], "buffer", None), "error", None)
        return None if isinstance(error, BrokenPipeError) else error

    def give_back(self) -> None:
        """Puts the streams of before in their place. What somebody prints to ours later is dropped."""
        sys.stdout, sys.stderr = self._before
        for stream in self._ours:
            if isinstance(stream, Text) and isinstance(stream.buffer, Descriptor):
                stream.flush()
                stream.buffer.end()


class Text(io.TextIOWrapper):
    """A standard stream, which is everybody's: nobody's `close` ends it."""

    def close(self) -> None:
        self.flush()


def _open_all() -> None:
    """Opens what of stdin, stdout and stderr is closed, on nothing. Else the next files would get their numbers, and a
    library's message a place in a run's log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _replacement(stream: Any, number: int, name: str, patient: bool) -> Any:
    """Our stream for one of before; itself where it is no file of the system (a notebook's, a test's)."""
    if stream is None:  # it was closed: llmrl … >&-
        closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
        return Text(Descriptor(number, name, patient=patient, error=closed), "utf-8", "replace")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        fd = stream.fileno()
    except (OSError, ValueError):
        return stream
    with suppress(OSError, ValueError):  # then what was printed before us is lost
        stream.flush()
    errors = stream.errors if stream.errors in TOTAL else "backslashreplace"
    raw = Descriptor(fd, name, patient=patient)
    return Text(raw, stream.encoding, errors, line_buffering=True)
