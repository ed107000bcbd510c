"""What is known of a cell's runs: from run directories, or (results.py) from the csv that ships with the repository."""

import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from llmrl.checks import ConfigError, raised
from llmrl.contracts.report import Metric
from llmrl.report.store.record import RunRecord
from llmrl.report.tables import grid
from llmrl.report.tables.metrics import Evaluated, Score

MISSING = "missing"  # of a cell: it has no run
STATES = (grid.RUNNING_RUN, grid.QUEUED_RUN, grid.DAMAGED)  # of runs, which a cell without a number counts
Number = Callable[[str, Score, str | None], float | None]  # (metric, score, evaluation set), None: it has none


@dataclass(frozen=True, eq=False)
class Ran:
    """A run of a cell, finished or not."""

    seed: int
    id: str
    standing: str  # as grid.standing has it
    number: Number
    command: str  # that makes it
    codes: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    model: str | None = None  # the language model that answered; None: none was asked
    episodes: int | None = None  # training episodes that train_last_100 averages


@dataclass(frozen=True, eq=False)
class CellRuns:
    """The runs of a cell: those wanted, one per seed, and those that there are."""

    row: str
    column: str
    seeds: tuple[int, ...]
    runs: tuple[Ran, ...]
    key: Hashable  # equal where two columns show the same runs
    lengths: frozenset[tuple[int, str]]  # of a run: 100,000 env_steps
    refused: str = ""  # why its runs can be neither found nor made on this machine

    @property
    def open(self) -> bool:
        """Whether one of its runs is neither finished, nor under way, nor damaged."""
        if self.refused:
            return False
        settled = (grid.DONE_RUN, grid.RUNNING_RUN, grid.QUEUED_RUN, grid.DAMAGED)
        closed = sum(run.standing in settled for run in self.runs)
        return closed < len(self.seeds)


def on_disk(
    cell: grid.Cell, seeds: Sequence[int], found: Mapping[tuple[int, str], RunRecord],
    metrics: Mapping[str, Evaluated | Metric],
) -> CellRuns:  # fmt: skip
    """A cell's runs by their directories."""
    runs = tuple(_ran(run, found[run.key], metrics) for run in cell.runs if run.key in found)
    key = tuple(run.key for run in cell.runs) or (cell.row, cell.column)
    lengths = frozenset((run.steps, run.unit) for run in cell.runs)
    return CellRuns(cell.row, cell.column, tuple(seeds), runs, key, lengths, cell.refused)


def _ran(run: grid.PlannedRun, record: RunRecord, metrics: Mapping[str, Evaluated | Metric]) -> Ran:
    def number(metric: str, score: Score, evaluation_set: str | None) -> float | None:
        kind = metrics[metric]
        if isinstance(kind, Evaluated):
            return kind.number(record, score, evaluation_set)
        try:
            return kind.number(record)
        except Exception as error:  # noqa: BLE001 (a paper's metric may be anybody's code)
            raise ConfigError(f"metric {metric} of {record.path}: {raised(error)}") from error

    asked = (record.llm or {}).get("calls")
    command = f"llmrl run {shlex.join(grid.merged(*run.overrides, f'seed={run.seed}'))}"
    return Ran(
        run.seed, run.id, grid.standing(record), number, command, record.codes, record.processors,
        record.llm["model"] if record.llm and asked else None, record.train_last[1] if record.train_last else None,
    )  # fmt: skip


def finished(cells: Sequence[CellRuns]) -> list[Ran]:
    """The finished runs of these cells, each once."""
    runs = {(run.seed, run.id): run for cell in cells for run in cell.runs if run.standing == grid.DONE_RUN}
    return list(runs.values())


def missing(cell: CellRuns, scored: int) -> str:
    """What a cell without a number lacks: missing (no run); 1 of 3 runs (1 running)."""
    if not cell.runs:
        return MISSING
    states = [run.standing for run in cell.runs]
    parts = [f"{states.count(state)} {state}" for state in STATES if state in states]
    if states.count(grid.DONE_RUN) > scored:
        parts.append(f"{states.count(grid.DONE_RUN) - scored} without this number")
    return f"{scored} of {len(cell.seeds)} runs" + (f" ({', '.join(parts)})" if parts else "")
