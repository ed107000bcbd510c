"""The programs of a run's search, each with its difference to the best one of the iteration before."""

import difflib
from collections.abc import Sequence
from typing import Any

from llmrl.contracts.report import Program


def compared(programs: Sequence[Program]) -> list[dict[str, Any]]:
    """Plain values, with `before`, the best one of the iteration before, and the `diff` to it, as a unified diff; ""
    where there is none."""
    best: dict[tuple[str, int], Program] = {}
    for one in sorted((one for one in programs if one.score is not None), key=lambda one: one.score or 0.0):
        best[one.series, one.iteration] = one
    return [_plain(one, best.get((one.series, one.iteration - 1))) for one in programs]


def _plain(one: Program, before: Program | None) -> dict[str, Any]:
    diff = ""
    if before is not None:
        lines = before.code.splitlines(), one.code.splitlines()
        diff = "\n".join(difflib.unified_diff(*lines, before.index, one.index, n=3, lineterm=""))
    return {
        "purpose": one.purpose, "index": one.index, "series": one.series, "iteration": one.iteration,
        "outcome": one.outcome, "reason": one.reason, "score": one.score, "code": one.code, "training": one.training,
        "before": before.index if before else "", "diff": diff,
    }  # fmt: skip
