"""During training: does a program still give what it gave for the same arguments?

The sandbox's gate keeps out what could remember, and the checks before any training ask again. What both missed shows
here: the first arguments and newer ones are asked again at every EVERY-th call, 0.8 % more calls. The answers to others
do not depend on it, and which they are follows from the number of calls, which a resume restores.
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
        self._kept: list[tuple[list[NDArray], list[NDArray]]] = []  # (arguments, answer) of the first call, of a newer

    def step(self, *arguments: NDArray[np.float64]) -> tuple[NDArray, ...]:
        """What the program answers. Raises SandboxFailure, "impure" among its names."""
        values = self._sandbox.call("step", *arguments)
        if self._calls % EVERY == 0:
            self.look()
            self._kept = [*self._kept[:1], ([a.copy() for a in arguments], list(values))]
        self._calls += 1
        return values

    def look(self) -> None:
        """Asks again what is kept. Raises SandboxFailure where an answer is another than before."""
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
