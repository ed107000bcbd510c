"""A run's curves, as points that the page draws."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llmrl.report.store import files
from llmrl.report.store.record import RunRecord
from llmrl.runs.identity import DONE

MOST = 300  # points of a curve; of more, neighbours are averaged
COUNTERS = ("kind", "env_steps", "updates", "episodes", "number", "length", "lengths")
EVALUATED, TRAINED = "evaluation return, greedy", "training return"
Points = tuple[list[float], list[float | None]]


def curves(record: RunRecord) -> dict[str, Points]:
    """{name: (env_steps, or updates of an offline run; values)}: evaluations by their policy, training episodes, and
    all that is logged. Raises DamagedFile."""
    found: defaultdict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
    for name, x, y in [*_evaluated(record), *_trained(record)]:
        if isinstance(y, int | float) and not isinstance(y, bool):
            found[name][0].append(x)
            found[name][1].append(y)
    return {name: thinned(x, y) for name, (x, y) in found.items()}


def thinned(x: Sequence[float], y: Sequence[float]) -> Points:
    """At most MOST points: means of as many neighbours as need be. What is not finite is None."""
    size = max(1, -(-len(x) // MOST))
    parts = [np.array(y[i : i + size], np.float64) for i in range(0, len(y), size)]
    means = [float(part.mean()) for part in parts]
    return list(x[size - 1 :: size]) + list(x[-1:] if len(x) % size else []), [
        m if np.isfinite(m) else None for m in means
    ]


def _rows(record: RunRecord, name: str) -> list[dict[str, Any]]:
    path = record.path / name
    return files.rows(path, record.status == DONE) if path.exists() else []


def _evaluated(record: RunRecord) -> Iterator[tuple[str, float, Any]]:
    for row in _rows(record, "eval.jsonl"):
        if (policy := row.get("policy")) in (None, "random"):
            continue
        x = row.get("env_steps") or row.get("updates", 0)
        yield f"evaluation return, {policy}", x, row.get("return_mean")
        for key, values in row.items():
            if key.startswith("success") and isinstance(values, list) and values:
                yield f"{key} (share of episodes), {policy}", x, float(np.mean(values))


def _trained(record: RunRecord) -> Iterator[tuple[str, float, Any]]:
    for row in _rows(record, "metrics.jsonl"):
        x = row.get("env_steps") or row.get("updates", 0)
        if row.get("kind") == "episode":
            yield TRAINED, x, row.get("return")
        else:
            yield from ((key, x, value) for key, value in row.items() if key not in COUNTERS)
