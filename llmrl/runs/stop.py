"""Stopping politely: SIGTERM, SIGUSR2, SIGHUP and ctrl-C end a run at the next point where its state is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """The run was asked to stop. A BaseException, so that no library's `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Paused(Exception):
    """The run cannot go on now, through no fault of its own (money, a server); the same command continues it later."""

    later = True  # False: not before something in the configuration is put right


class Stop:
    """A flag that the loop polls, and regions (an LLM wait, an evaluation) that a signal may cut short at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._wake = threading.Event()
        self._regions = 0
        self.followers: list[Stop] = []  # runs in other threads, which are asked as well
        self._previous: dict[int, Any] = {}  # what signal.signal returned

    @contextmanager
    def installed(self) -> Iterator["Stop"]:
        """Listens to the signals for as long as the context lasts. Python lets the main thread alone do that: in
        another one it does nothing, and `ask` stops the run."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        hangup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup: the terminal's end is not ours
        heard = [s for s in SIGNALS if s != signal.SIGHUP or not hangup_ignored]
        self._previous = {s: signal.signal(s, self._on_signal) for s in heard}
        try:
            yield self
        finally:
            for signum, handler in self._previous.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: object) -> None:
        if signum == signal.SIGINT and self.signum == signal.SIGINT:
            raise KeyboardInterrupt  # a second ctrl-C means: now
        first, self.signum = self.signum is None, signum
        for follower in self.followers:
            follower.ask(signum)
        if self._regions and first:  # a second one must not cut short the checkpoint that the first one asked for
            raise Stopped(signum)

    def ask(self, signum: int = signal.SIGTERM) -> None:
        """Asks the run to stop as the signal would, from any thread, at the next point where its state is whole."""
        self.signum = signum
        self.wake()
        for follower in self.followers:
            follower.ask(signum)

    def poll(self) -> None:
        """Raises Stopped if a signal has come, or somebody has asked."""
        if self.signum is not None:
            raise Stopped(self.signum)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A region in which a signal raises Stopped at once; nothing that a checkpoint saves may change inside."""
        self._regions += 1
        try:
            self.poll()
            yield
        finally:
            self._regions -= 1

    def wait(self, seconds: float) -> None:
        """Waits, at the most until `wake` is called."""
        with self.interruptible():
            self._wake.wait(seconds)
            self._wake.clear()
            self.poll()

    def wake(self) -> None:
        """Ends a `wait` that is under way, or the next one, from any thread."""
        self._wake.set()

    def chain(self) -> None:
        """Hands the signal on to the handler that was there before ours (submitit requeues the job in its own)."""
        handler = self._previous.get(signal.SIGUSR2)
        if self.signum == signal.SIGUSR2 and callable(handler):
            handler(self.signum, None)
