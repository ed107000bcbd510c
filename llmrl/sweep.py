"""The runs of `llmrl run -m …`: every combination of values is composed once, whatever the number of its seeds."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from llmrl.checks import ConfigError
from llmrl.hydra_compose import compose
from llmrl.hydra_session import session
from llmrl.runs.stacked import Job

_kept: "dict[tuple[str, ...], _Combination] | None" = None  # see composed_once


def points_of(args: Sequence[str]) -> list[list[str]] | None:
    """The overrides of each run of a command line, in Hydra's order, the last key fastest. None where that is not for
    us to say: it shows something, a sweeper or launcher is chosen, or the sweep is none, which Hydra says best."""
    flags, overrides = [arg for arg in args if arg.startswith("--")], [arg for arg in args if not arg.startswith("--")]
    if flags not in ([], ["--multirun"]) or any(text.lstrip("+~").startswith("hydra") for text in overrides):
        return None
    if not flags:
        return [overrides]
    try:
        with session() as loader:
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
            points = [list(point) for point in BasicSweeper.split_arguments(parsed, None)[0]]
            own = hydra.compose("run", points[0], return_hydra_config=True).hydra
    except Exception:  # noqa: BLE001 (see above)
        return None
    basic = all(str(own[part]._target_).endswith(f".Basic{part.title()}") for part in ("sweeper", "launcher"))
    return points if basic and not own.sweeper.params and own.sweeper.max_batch_size is None else None


@contextmanager
def composed_once() -> Iterator[None]:
    """Within it, sweeps and runs after one another count as one sweep: what files they are made of is settled."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def jobs_of(points: Sequence[list[str]]) -> tuple[list[Job], list[str]]:
    """The runs, and all that is wrong."""
    jobs, wrong = [], []
    known = {} if _kept is None else _kept
    for point in points:
        others = tuple(text for text in point if not text.startswith("seed="))
        combination = known.setdefault(others, _Combination())
        try:
            jobs.append((combination.node(point), point))
        except ConfigError as error:
            wrong.append(str(error))
    return jobs, list(dict.fromkeys(wrong))


class _Combination:
    """Runs that differ in the seed alone. Two are composed: where these differ in nothing else either, so do all."""

    def __init__(self) -> None:
        self.composed: list[tuple[int, dict[str, Any]]] = []

    def node(self, point: Sequence[str]) -> dict[str, Any]:
        """The node of one of them. Raises ConfigError."""
        seed = _seed(point)
        if seed is not None and len(self.composed) == 2:
            (first, a), (second, b) = self.composed
            if first != second and a | {"seed": second} == b:
                return copy.deepcopy(a) | {"seed": seed}
        node = compose(point)
        if seed is not None and len(self.composed) < 2 and node.get("seed") == seed:
            self.composed.append((seed, copy.deepcopy(node)))
        return node


def _seed(point: Sequence[str]) -> int | None:
    """The seed that an override gives as a plain number; else None."""
    given = [text.partition("=")[2] for text in point if text.startswith("seed=")]
    return (
        int(given[0]) if len(given) == 1 and given[0].isascii() and given[0].isdigit() and len(given[0]) < 10 else None
    )
