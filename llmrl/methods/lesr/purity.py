"""During training: does a program still give what it gave for the same state?

The sandbox's gate keeps out what could remember, and `validate` asks states again before any training. What both missed
shows here: the first state and a newer one are asked again at every EVERY-th call, 0.8 % more calls. The answers to
other states do not depend on it, and which states they are follows from the number of calls, which a resume restores.
"""

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.sandbox import Sandbox, SandboxFailure

EVERY = 250  # calls


class Asked:
    """The program's `step`, asked once for each new state, and now and then for an old one."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._calls = 0
        self._kept: list[tuple[NDArray, ...]] = []  # (state, features, reward) of the first call, and of a newer one

    def step(self, state: NDArray[np.float64]) -> tuple[NDArray, ...]:
        """(features, reward). Raises SandboxFailure, "impure" among its names."""
        values = self._sandbox.call("step", state)
        if self._calls % EVERY == 0:
            self.look()
            self._kept = [*self._kept[:1], (state.copy(), *values)]
        self._calls += 1
        return values

    def look(self) -> None:
        """Asks the kept states again. Raises SandboxFailure where an answer is another than before."""
        for state, *before in self._kept:
            again = self._sandbox.call("step", state)
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, again, strict=True)):
                raise SandboxFailure("impure", f"a state gave another result than before, after {self._calls} calls")

    def state_dict(self) -> dict:
        return {"calls": self._calls, "kept": [tuple(np.array(part) for part in kept) for kept in self._kept]}

    def load_state_dict(self, state: dict) -> None:
        self._calls, self._kept = state["calls"], [tuple(kept) for kept in state["kept"]]
