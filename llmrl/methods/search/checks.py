"""Checks that every search makes of a program: it is fast enough, and equal inputs give equal outputs."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.program_text import Rejected
from llmrl.llm.sandbox import Sandbox
from llmrl.runs import seeding

TIMED = 50  # states that are timed in one call, the same again where there are fewer
SECONDS_PER_STATE = 0.001  # generous: a slow training step takes 0.005, and machines are busy
REJECTIONS = {
    "too_slow": "a state takes too long",
    "impure": "the same state gave another result the second time, in another order or in another process",
}
Check = Callable[[Sandbox, Sequence[NDArray]], tuple[NDArray, ...]]  # (n, …) columns -> (n, …) values


def within_time(check: Check, sandbox: Sandbox, columns: Sequence[NDArray]) -> tuple[NDArray, ...]:
    """Runs `check` on all rows, after timing it on the first 50. Raises Rejected (too_slow)."""
    few, taken = [column[np.arange(TIMED) % len(column)] for column in columns], []
    for _ in range(3):  # the best of three: a busy machine is not the program's fault
        begin = time.perf_counter()
        check(sandbox, few)
        taken.append((time.perf_counter() - begin) / len(few[0]))
    if min(taken) > SECONDS_PER_STATE:
        raise Rejected("too_slow", f"{1e3 * min(taken):.1f} ms for a state, at most {1e3 * SECONDS_PER_STATE:g} ms")
    return check(sandbox, columns)


def check_pure(
    check: Check, sandbox: Sandbox, another: Sandbox, columns: Sequence[NDArray], values: Sequence[NDArray]
) -> None:
    """Evaluates the rows of known `values` again, in other orders and in another process. Raises Rejected (impure)."""
    n = len(columns[0])
    backwards, mixed = np.arange(n)[::-1], seeding.generator(0, "purity").permutation(n)
    for process, order in (sandbox, backwards), (sandbox, mixed), (another, np.repeat(mixed, 2)):
        again = check(process, [column[order] for column in columns])
        if not all(np.array_equal(a, b[order], equal_nan=True) for a, b in zip(again, values, strict=True)):
            raise Rejected("impure", REJECTIONS["impure"])
