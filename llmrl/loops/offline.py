"""The one offline training loop: it draws batches from a source and updates a learner, and steps no environment.

It follows loops/online.py: all that can be interrupted stands at the top of a pass, where the state is whole, so a
checkpoint taken there continues exactly. A pass is one update.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch

from llmrl.contracts.agent import Learner
from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Batch, Ring
from llmrl.loops.online import TrainingDiverged
from llmrl.runs import seeding
from llmrl.runs.checkpoint import Checkpoints
from llmrl.runs.files import DiskError
from llmrl.runs.log import RunLog
from llmrl.runs.stop import Stop


class Source(Protocol):
    """Where batches come from, such as a dataset. It has no state of its own: all that is random comes from `rng`."""

    def draw(self, rng: np.random.Generator) -> Batch:
        """What the learner's `update` takes. It need not outlive the next draw."""


@dataclass
class Schedule:
    """When things are due, in updates (seconds for checkpoints)."""

    updates: int
    evaluate_every: int
    log_every: int
    checkpoint_every_s: float


class OfflineTraining:
    """One training from its first update, or from its newest checkpoint, to its last.

    `validate` gives numbers on held-out data. They become a row of kind "validation" beside each evaluation.
    """

    def __init__(
        self,
        learner: Learner,
        source: Source,
        *,
        seed: int,
        schedule: Schedule,
        evaluate: Callable[[Clock], None],
        log: RunLog,
        checkpoints: Checkpoints,
        stop: Stop,
        report: Callable[[Clock, dict], None],
        validate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.learner, self.source, self.schedule = learner, source, schedule
        self.evaluate, self.validate = evaluate, validate
        self.log, self.checkpoints, self.stop, self.report = log, checkpoints, stop, report
        self.replay_buffer = _NoRows()
        self.clock = Clock()  # env_steps and episodes stay 0
        self.evaluated_at = -1  # updates at the last evaluation
        self.last_update: dict[str, torch.Tensor] = {}
        self.rng = seeding.generator(seed, "replay")
        self._saved_at = self._reported_at = time.monotonic()
        self._reported_updates = 0

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
                if self.clock.updates >= self.schedule.updates:
                    break
                whole = False
                self._update()
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

    # --- a pass -----------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        out = self.learner.update(self.source.draw(self.rng))
        self.clock.updates += 1
        # kept by name: what only some updates give is logged as it was last
        self.last_update |= {name: value for name, value in out.items() if value.ndim == 0}

    # --- what is due now and then -----------------------------------------------------------------------------------

    def _evaluate_if_due(self) -> None:
        updates = self.clock.updates
        due = updates % self.schedule.evaluate_every == 0 or updates >= self.schedule.updates
        if due and self.evaluated_at != updates:
            numbers = {} if self.validate is None else dict(self.validate())
            self._finite(numbers)
            self.evaluate(self.clock)
            if numbers:  # last: whoever stops the evaluation has written neither, and both are done again
                self.log.metrics({"kind": "validation", **asdict(self.clock), **numbers})
            self.evaluated_at = updates
            self._report_progress(numbers)

    def _log_if_due(self) -> None:
        if self.clock.updates % self.schedule.log_every == 0:
            numbers = {k: float(v) for k, v in self.last_update.items()}
            self._finite(numbers)
            self.log.metrics({"kind": "train", **asdict(self.clock), **numbers})
        if time.monotonic() - self._reported_at > 1.0:
            self._report_progress()

    def _finite(self, numbers: Mapping[str, float]) -> None:
        if bad := [k for k, v in numbers.items() if not math.isfinite(v)]:
            raise TrainingDiverged(f"{bad[0]} is {numbers[bad[0]]} at {self.clock.updates:,} updates")

    def _report_progress(self, numbers: Mapping[str, float] | None = None) -> None:
        now = time.monotonic()
        speed = (self.clock.updates - self._reported_updates) / max(now - self._reported_at, 1e-9)
        self._reported_at, self._reported_updates = now, self.clock.updates
        self.log.timing({"updates": self.clock.updates, "updates_per_s": round(speed, 1), "time": time.time()})
        self.log.flush()
        loss = {"loss": float(self.last_update["loss"])} if "loss" in self.last_update else {}
        self.report(self.clock, loss | dict(numbers or {}))

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self.schedule.checkpoint_every_s:
            self.save()

    def save(self) -> None:
        self.checkpoints.save(self.state_dict(), self.replay_buffer, self.log.offsets())
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict:
        """All that changes. `agent` is the learner, as in the online loop, so that whoever reads a run finds it."""
        return {
            "clock": asdict(self.clock),
            "evaluated_at": self.evaluated_at,
            "last_update": self.last_update,
            "rng": self.rng.bit_generator.state,
            "agent": self.learner.state_dict(),
        }

    def _resume(self) -> list[str]:
        found = self.checkpoints.load(self.replay_buffer)
        self.log.cut(found.offsets)
        if found.state is None:
            return found.complaints
        state = found.state
        self.clock = Clock(**state["clock"])
        self.evaluated_at, self.last_update = state["evaluated_at"], state["last_update"]
        self.rng.bit_generator.state = state["rng"]
        self.learner.load_state_dict(state["agent"])
        self._reported_updates = self.clock.updates
        return found.complaints


class _NoRows:
    """The replay buffer of a training that makes no rows: for its checkpoints."""

    def rings(self) -> dict[str, Ring]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """There is no state."""
