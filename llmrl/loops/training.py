"""What the two training loops share: the pass, and what is due between two of them.

A pass is: evaluate if due, stop if asked, checkpoint if due, the loop's own part, log if due. All that can be
interrupted stands at the top, where the state is whole, so a checkpoint taken there continues exactly.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypedDict

from torch import Tensor

from llmrl.contracts.explorer import Clock
from llmrl.runs.checkpoint import Checkpoints, Stored
from llmrl.runs.files import DiskError
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop


class TrainingDiverged(Exception):
    """A metric became infinite or NaN."""


@dataclass
class Schedule:
    """When things are due, in the training's unit (seconds for checkpoints)."""

    length: int
    evaluate_every: int
    log_every: int
    checkpoint_every_s: float


class Services(TypedDict):
    """What every training is given beside its own parts."""

    schedule: Schedule
    evaluate: Callable[[Clock], None]
    log: RunLog
    checkpoints: Checkpoints
    stop: Stop
    report: Callable[[Clock, dict], None]


class Training(ABC):
    """One training from its first pass, or from its newest checkpoint, to its last."""

    unit: ClassVar[Literal["env_steps", "updates"]]  # what it is measured in
    stride: int = 1  # how many of these a pass makes
    replay_buffer: Stored  # what its checkpoints hold beside the state

    def __init__(
        self,
        *,
        schedule: Schedule,
        evaluate: Callable[[Clock], None],
        log: RunLog,
        checkpoints: Checkpoints,
        stop: Stop,
        report: Callable[[Clock, dict], None],
    ) -> None:
        self.schedule, self.evaluate, self.log = schedule, evaluate, log
        self.checkpoints, self.stop, self.report = checkpoints, stop, report
        self.clock = Clock()
        self.evaluated_at = -1  # `now` at the last evaluation
        self.last_update: dict[str, Tensor] = {}
        self._saved_at = self._reported_at = time.monotonic()
        self._reported = 0  # `now` at the last report

    @property
    def now(self) -> int:
        """How much of the schedule's length is done."""
        return self.clock.env_steps if self.unit == "env_steps" else self.clock.updates

    def run(self) -> Clock:
        """Trains to the end of the budget. Whatever interrupts it at the top of a pass leaves a checkpoint behind."""
        for complaint in self._resume():
            self.report(self.clock, {"warning": complaint})
        whole = True  # whether the state is that of the top of a pass
        try:
            while True:
                self._evaluate_if_due()
                self.stop.poll()
                self._checkpoint_if_due()
                if self.now >= self.schedule.length:
                    break
                self._begin_pass()
                whole = False
                self._pass()
                self._log_if_due()
                whole = True
        except DiskError:  # another attempt to write would fail as well
            raise
        except BaseException:  # asked to stop, paused, or failed where nothing has been lost yet
            if whole:
                self.save()
            raise
        self._report_progress()
        self.log.flush()
        return self.clock

    # --- the loop's own -----------------------------------------------------------------------------------------------

    def _begin_pass(self) -> None:  # noqa: B027 (a loop may have nothing to begin)
        """What may still be interrupted: the state stays whole."""

    @abstractmethod
    def _pass(self) -> None:
        """Goes on by `stride`."""

    def _evaluate(self) -> Mapping[str, float]:
        """One evaluation. Returns numbers for the report."""
        self.evaluate(self.clock)
        return {}

    @abstractmethod
    def _metrics(self) -> Mapping[str, Any]:
        """What a row of the log holds beside the clock and the last update."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """What is worth showing a person."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """All that changes, beside what `state_dict` holds already."""

    @abstractmethod
    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Puts back what `_own_state` returned."""

    def _note_update(self, out: Mapping[str, Tensor]) -> None:
        """Kept by name: what only some updates give (TD3's actor loss) is logged as it was last."""
        self.last_update |= {name: value for name, value in out.items() if value.ndim == 0}

    # --- what is due now and then -------------------------------------------------------------------------------------

    def _due(self, every: int) -> bool:
        """Whether the last pass reached or passed a multiple of `every`."""
        return self.now % every < self.stride

    def _evaluate_if_due(self) -> None:
        due = self._due(self.schedule.evaluate_every) or self.now >= self.schedule.length
        if due and self.evaluated_at != self.now:
            numbers = self._evaluate()
            self.evaluated_at = self.now
            self._report_progress(numbers)

    def _log_if_due(self) -> None:
        if self._due(self.schedule.log_every):
            numbers = {k: float(v) for k, v in self.last_update.items()}
            self._check_finite(numbers)
            self.log.metrics({"kind": "train", **asdict(self.clock), **numbers, **self._metrics()})
        if time.monotonic() - self._reported_at > 1.0:
            self._report_progress()

    def _check_finite(self, numbers: Mapping[str, float]) -> None:
        if bad := [k for k, v in numbers.items() if not math.isfinite(v)]:
            raise TrainingDiverged(f"{bad[0]} is {numbers[bad[0]]} at {self.now:,} {self.unit}")

    def _report_progress(self, numbers: Mapping[str, float] | None = None) -> None:
        now = time.monotonic()
        speed = (self.now - self._reported) / max(now - self._reported_at, 1e-9)
        self._reported_at, self._reported = now, self.now
        self.log.timing({self.unit: self.now, f"{self.unit}_per_s": round(speed, 1), "time": time.time()})
        self.log.flush()
        self.report(self.clock, self._facts() | dict(numbers or {}))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.schedule.checkpoint_every_s:
            self.save()

    def save(self) -> None:
        self.checkpoints.save(self.state_dict(), self.replay_buffer, self.log.offsets())
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        last = {name: value.clone() for name, value in self.last_update.items()}  # of a view, all of it would be saved
        shared = {"clock": asdict(self.clock), "evaluated_at": self.evaluated_at, "last_update": last}
        return shared | self._own_state()

    def _resume(self) -> list[str]:
        """Goes back to the newest checkpoint, if there is one. Returns what was wrong with others."""
        found = self.checkpoints.load(self.replay_buffer)
        self.log.cut(found.offsets)
        if (state := found.state) is not None:
            self.clock = Clock(**state["clock"])
            self.evaluated_at, self.last_update = state["evaluated_at"], state["last_update"]
            self._load_own_state(state)
            self._reported = self.now
        return found.complaints
