"""Waiting for a language model: cut short by a signal in the main thread, by the end of training in a job's."""

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

from llmrl.runs.stop import Paused

TICK_S = 1.0  # between two looks at a request under way


class LLMUnavailable(Paused):
    """No attempt brought an answer; another time one may."""


class LLMRefused(LLMUnavailable):
    """The server will refuse this for ever: something in the configuration is wrong. What was trained is kept."""

    later = False


class Interruptible(Protocol):
    """What the client wants of runs/stop.py: a signal raises Stopped inside `interruptible()` and `wait()`."""

    def interruptible(self) -> AbstractContextManager[None]: ...

    def wait(self, seconds: float) -> None: ...


class Aside:
    """The waits of a job's thread: no signal cuts them short, only the end of the training does."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def interruptible(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wait(self, seconds: float) -> None:
        if self.left.wait(seconds):
            raise LLMUnavailable("nobody waits for the answer any more")


def in_thread(call: Callable[[], Any], stop: Interruptible, timeout_s: float, waiting: Callable[[float], None]) -> Any:
    """What `call` returns or raises; Stopped on a signal, TimeoutError after `timeout_s`. A late answer is lost.
    `waiting` is called with the seconds so far, now and then."""
    outcome: list[tuple[Any, Exception | None]] = []
    done = threading.Event()

    def work() -> None:
        try:
            outcome.append((call(), None))
        except Exception as error:  # noqa: BLE001 (raised again below, where it is waited for)
            outcome.append((None, error))
        finally:
            done.set()

    thread = threading.Thread(target=work, daemon=True, name="llm-call")
    # An interpreter that ends while a thread comes back from a call can hang for ever: let it come back first.
    come_back = partial(_join, thread)
    atexit.register(come_back)
    with stop.interruptible():
        thread.start()
        begin = time.monotonic()
        # litellm's own time-out restarts with every byte; this one is for the whole answer
        while not done.wait(min(TICK_S, begin + timeout_s + 0.5 - time.monotonic())):
            stop.wait(0)  # where no signal is heard, in another thread than the main one
            seconds = time.monotonic() - begin
            if seconds >= timeout_s + 0.5:
                raise TimeoutError(f"no whole answer within {timeout_s:g} s")
            waiting(seconds)
    atexit.unregister(come_back)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _join(thread: threading.Thread) -> None:
    if thread.is_alive():
        thread.join(1.0)
