"""What a sweep says between its runs: which one begins, how the others ended, and how long the rest will take."""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence

from llmrl.runs.lifecycle import RunResult


class SweepProgress:
    """Lines for the runs of `llmrl run -m`, on stderr; none for a single run."""

    def __init__(self, runs: Sequence[Sequence[str]]) -> None:
        """`runs`: the overrides of each."""
        self._runs = runs
        self._began = time.monotonic()
        self._seconds: list[float] = []  # of the runs that were trained here
        self._ended: dict[int, RunResult] = {}

    def begun(self, group: Sequence[int]) -> None:
        """These are trained now, side by side."""
        self._began = time.monotonic()
        for i in group:
            self._say(f"Run {i + 1} of {len(self._runs)}: {shlex.join(self._runs[i])}")

    def ended(self, group: Sequence[int], results: Sequence[RunResult]) -> None:
        """And came to this."""
        self._ended |= dict(zip(group, results))
        if trained := [one for one in results if not one.before]:
            self._seconds += [(time.monotonic() - self._began) / len(trained)] * len(trained)
        self._say(self._summary())
        if len(self._ended) == len(self._runs):
            for i, one in self._ended.items():
                if one.code:
                    self._say(f"  {one.status}: {shlex.join(self._runs[i])}")

    def _summary(self) -> str:
        counts = Counter(one.status.lower() for one in self._ended.values())
        ends = ", ".join(f"{n} {status}" for status, n in counts.items())
        text = f"{len(self._ended)} of {len(self._runs)} runs: {ends}"
        left = len(self._runs) - len(self._ended)
        if not left or not self._seconds:
            return text
        return f"{text}; about {duration(left * sum(self._seconds) / len(self._seconds))} left"

    def _say(self, text: str) -> None:
        if len(self._runs) > 1:
            print(f"{text}\n", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """40 s, 12 min, 1.9 h, 2.1 d"""
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
