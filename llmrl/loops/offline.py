"""The one offline training loop: it draws batches from a source and updates a learner, and steps no environment.

A pass is one update.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, Unpack

import numpy as np

from llmrl.contracts.agent import Learner
from llmrl.contracts.replay import Batch, Ring
from llmrl.loops.training import Services, Training
from llmrl.runs import seeding


class Source(Protocol):
    """Where batches come from, such as a dataset. It has no state of its own: all that is random comes from `rng`."""

    def draw(self, rng: np.random.Generator) -> Batch:
        """What the learner's `update` takes. It need not outlive the next draw."""


class OfflineTraining(Training):
    """`validate` gives numbers on held-out data. They become a row of kind "validation" beside each evaluation."""

    unit = "updates"  # env_steps and episodes stay 0

    def __init__(
        self,
        learner: Learner,
        source: Source,
        *,
        seed: int,
        validate: Callable[[], Mapping[str, float]] | None = None,
        **services: Unpack[Services],
    ) -> None:
        super().__init__(**services)
        self.learner, self.source, self.validate = learner, source, validate
        self.replay_buffer = _NoRows()
        self.rng = seeding.generator(seed, "replay")

    def _pass(self) -> None:
        out = self.learner.update(self.source.draw(self.rng))
        self.clock.updates += 1
        self._note_update(out)

    def _evaluate(self) -> Mapping[str, float]:
        numbers = {} if self.validate is None else dict(self.validate())
        self._check_finite(numbers)
        self.evaluate(self.clock)
        if numbers:  # last: whoever stops the evaluation has written neither, and both are done again
            self.log.metrics({"kind": "validation", **asdict(self.clock), **numbers})
        return numbers

    def _metrics(self) -> Mapping[str, Any]:
        return {}

    def _facts(self) -> dict[str, Any]:
        return {"loss": float(self.last_update["loss"])} if "loss" in self.last_update else {}

    def _own_state(self) -> dict[str, Any]:
        """`agent` is the learner, as in the online loop, so that whoever reads a run finds it."""
        return {"rng": self.rng.bit_generator.state, "agent": self.learner.state_dict()}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]
        self.learner.load_state_dict(state["agent"])


class _NoRows:
    """The replay buffer of a training that makes no rows: for its checkpoints."""

    def rings(self) -> dict[str, Ring]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """There is no state."""
