"""Asking while training goes on: work in a thread, whose result counts from the env_step at which training takes it up.

That env_step is the one thing that a live run leaves to the clock. So it is an event of llm.jsonl, on disk before the
result takes effect, and a replay, or a run that goes on after a crash, takes the result up at the same env_step. All
other lines are written by the thread when they come. With one job at a time their order is the same in every replay.
"""

import threading
from collections.abc import Callable
from typing import Any

from llmrl.llm.client import LLM
from llmrl.llm.transcript import ReplayMismatch, ReplayMissing
from llmrl.runs.lease import TakenOver
from llmrl.runs.stop import Paused

APPLIED, DROPPED = "applied", "dropped"  # how a job ends; dropped: training was over before it


class Job:
    """One piece of work that asks an LLM. At most one is in flight at a time; who starts it sees to that."""

    def __init__(self, llm: LLM, purpose: str, index: str, work: Callable[[], Any]) -> None:
        """Starts `work`, which may ask `llm` and record events, but changes nothing else.

        Where it is recorded how the job ended, it is done at once, from what is recorded. Raises ReplayMissing where a
        recording does not tell how it ended.
        """
        self._llm, self._name, self._work = llm, (purpose, index), work
        self._value: Any = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._known = self._recorded_end()
        if self._known is None:
            llm.prepare()
            threading.Thread(target=self._run, daemon=True, name="llm-job").start()
        elif self._known["event"] == APPLIED:
            self._value = work()
        elif llm.recording is not None:
            llm.transcript.copy_rest(llm.recording)  # it may stop in the middle of the work, where training was over

    def ready(self, env_steps: int) -> Any:
        """What the work returned, once it is to take effect at `env_steps`, and then only; else None."""
        if self._known is None:
            if not self._done.is_set() or self._error is not None:
                return None
        elif env_steps < self._known["env_steps"]:
            return None
        elif (self._known["event"], self._known["env_steps"]) != (APPLIED, env_steps):
            raise ReplayMismatch(
                f"{self._tale()} was recorded as {self._known['event']} at {self._known['env_steps']:,} env_steps, but "
                f"training goes on with it at {env_steps:,}. Replay with the settings and the budget that recorded it."
            )
        self._llm.event(*self._name, APPLIED, env_steps=env_steps)
        return self._value

    def raise_failure(self) -> None:
        """Raises what the work raised, if it did: LLMUnavailable, BudgetReached, ReplayError, …"""
        if self._done.is_set() and self._error is not None:
            raise self._error

    def drop(self, env_steps: int) -> None:
        """Training ended at `env_steps` before the result was taken up. Nothing is recorded after this."""
        if not isinstance(self._error, Paused):  # an LLM that cannot be reached is no matter any more
            self.raise_failure()
        with self._llm.transcript.lock:
            self._llm.event(*self._name, DROPPED, env_steps=env_steps)
            self._llm.close()

    def _run(self) -> None:
        try:
            self._value = self._work()
        except (Exception, TakenOver) as error:  # raised again where training can be left: raise_failure
            self._error = error
        finally:
            self._done.set()

    def _recorded_end(self) -> dict | None:
        held = [self._llm.transcript, self._llm.recording]
        ends = [t.events.get((*self._name, how)) for t in held if t is not None for how in (APPLIED, DROPPED)]
        end = next((event for event in ends if event is not None), None)
        if end is None and self._llm.recording is not None:
            raise ReplayMissing(
                f"llm.replay: {self._llm.recording.path} does not tell at which env_steps the answer to {self._tale()} "
                "began to count. Replay a finished run of the same method (method.asynchronous too), environment, seed "
                "and budget, or ask a model: llm=…"
            )
        return end

    def _tale(self) -> str:
        return " ".join(self._name)
