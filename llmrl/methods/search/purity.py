"""Checks during training that a program stays pure: equal arguments give equal answers.

The sandbox's gate forbids state, and the checks before training look for it. What both miss is found here: every EVERY
calls, the first arguments and newer ones are evaluated again, 0.8 % more calls. No other answer depends on it, and the
choice follows from the number of calls, which a resume restores.
"""

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.sandbox import Sandbox, SandboxFailure

EVERY = 250  # calls


class Asked:
    """Calls the program's `step` once for each new state, and now and then again for an old one."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._calls = 0
        self._kept: list[tuple[list[NDArray], list[NDArray]]] = []  # (arguments, answer) of the first call, of a newer

    def step(self, *arguments: NDArray[np.float64]) -> tuple[NDArray, ...]:
        """The program's answer. Raises SandboxFailure, also where the program is found impure."""
        values = self._sandbox.call("step", *arguments)
        if self._calls % EVERY == 0:
            self.look()
            self._kept = [*self._kept[:1], ([a.copy() for a in arguments], list(values))]
        self._calls += 1
        return values

    def look(self) -> None:
        """Evaluates the kept arguments again. Raises SandboxFailure (impure) where an answer differs."""
        for arguments, before in self._kept:
            again = self._sandbox.call("step", *arguments)
            if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, again, strict=True)):
                raise SandboxFailure("impure", f"a state gave another result than before, after {self._calls} calls")

    def state_dict(self) -> dict:
        kept = [([np.array(a) for a in arguments], [np.array(a) for a in answer]) for arguments, answer in self._kept]
        return {"calls": self._calls, "kept": kept}

    def load_state_dict(self, state: dict) -> None:
        self._calls = state["calls"]
        self._kept = [(list(arguments), list(answer)) for arguments, answer in state["kept"]]
