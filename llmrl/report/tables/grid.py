"""A table's cells -> the runs that each is made of, and their state on disk.

A run is known by its identity, so a cell finds its runs in whatever study they were made. Composing a configuration is
not this module's part: the caller passes `identify`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmrl.checks import ConfigError
from llmrl.config.scaling import shortened
from llmrl.report.store.loading import load_artifact
from llmrl.report.store.record import RunRecord
from llmrl.report.tables.definition import Table
from llmrl.runs.identity import DONE, FAILED, QUEUED, RUNNING, WAITING, RunDirectory

DONE_RUN, PARTIAL, RUNNING_RUN, FAILED_RUN, QUEUED_RUN = "done", "partial", "running", "failed", "queued"
MISSING, DAMAGED = "missing", "damaged"


class Stage(NamedTuple):
    """What several runs build on, made once: a search, a dataset. It is a run below outputs/artifacts."""

    path: Path
    steps: int
    unit: str
    node: Mapping[str, Any]  # what `llmrl run --from` reads there
    identity: Mapping[str, Any]
    asks: bool = False  # whether it asks an LLM
    after: tuple[Path, ...] = ()  # the stages that it builds on itself

    def __hash__(self) -> int:
        return hash(self.path)


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run of the grid, made or not."""

    overrides: tuple[str, ...]  # for `llmrl run`, without the seed
    outputs: Path
    path: Path  # in the study of its preset
    id: str
    identity: Mapping[str, Any]
    names: Mapping[str, str]  # method, agent, env
    seed: int
    unit: str  # env_steps, or updates of offline training
    steps: int
    device: str
    llm: str | None  # the model, where the method reads one
    node: Mapping[str, Any]  # what `llmrl run` composes
    stages: tuple[Stage, ...] = ()

    @property
    def key(self) -> tuple[int, str]:
        return self.seed, self.id


class Cell(NamedTuple):
    """Where a row and a column meet."""

    row: str
    column: str
    runs: tuple[PlannedRun, ...]  # one per seed
    refused: str = ""  # why there are none: this machine lacks what they need

    @property
    def env(self) -> str:
        return self.runs[0].names["env"]


Identify = Callable[[Sequence[str], Sequence[int]], tuple[PlannedRun, ...]]  # (overrides, seeds) -> runs


def cells(
    table: Table,
    rows: Sequence[str],
    columns: Sequence[str],
    seeds: Sequence[int],
    extra: Sequence[str],
    identify: Identify,
    *,
    whole: bool = True,
) -> list[Cell]:
    """All cells, row by row. Later overrides win: the table's, the row's, the column's, `extra`. Equal lists of
    overrides (columns that show another number of the same runs) are composed once. Raises ConfigError where a cell
    cannot be composed; not `whole`: such a cell has no runs, and says why."""
    known: dict[tuple[str, ...], tuple[tuple[PlannedRun, ...], str]] = {}
    found = []
    for row in rows:
        for column in columns:
            own = merged(*table.base, *table.rows[row].set, *table.columns[column].set)
            overrides = merged(*shortened(own, extra), *extra)
            if overrides not in known:
                try:
                    known[overrides] = identify(overrides, seeds), ""
                except ConfigError as error:
                    if whole:
                        raise
                    known[overrides] = (), str(error)
            found.append(Cell(row, column, *known[overrides]))
    return found


def merged(*overrides: str) -> tuple[str, ...]:
    """Overrides of which each key stands once: the last one wins."""
    return tuple({text.partition("=")[0]: text for text in overrides}.values())


def runs_of(cells: Iterable[Cell]) -> list[PlannedRun]:
    """Every run once, in the order of the cells; two columns may have the same."""
    return list({run.key: run for cell in cells for run in cell.runs}.values())


def stages_of(runs: Iterable[PlannedRun]) -> list[Stage]:
    """What the runs build on, each once."""
    return list({stage.path: stage for run in runs for stage in run.stages}.values())


def stage_done(stage: Stage) -> int:
    """How much of it there is, in its unit."""
    done = RunDirectory(stage.path).status().get(stage.unit, 0)
    return min(done, stage.steps) if isinstance(done, int) else 0


def stage_standing(stage: Stage) -> str:
    """done, partial, running, queued, failed or missing."""
    status = RunDirectory(stage.path).status().get("status")
    names = {None: MISSING, DONE: DONE_RUN, RUNNING: RUNNING_RUN, WAITING: RUNNING_RUN, FAILED: FAILED_RUN,
             QUEUED: QUEUED_RUN}  # fmt: skip
    return names.get(status, PARTIAL)


def find(runs: Iterable[PlannedRun], records: Iterable[RunRecord]) -> dict[tuple[int, str], RunRecord]:
    """The record of each run, by its key. Of several, the one that is furthest. What others build on has one place, and
    is looked up there beside the records."""
    keys = {run.key: run for run in runs}
    found: dict[tuple[int, str], RunRecord] = {}
    for record in records:
        key = record.seed, record.id
        if key in keys and _same(record, keys[key]) and (key not in found or _rank(record) > _rank(found[key])):
            found[key] = record
    for key, run in keys.items():
        if run.path.is_relative_to(run.outputs / "artifacts") and (made := load_artifact(run.path, run.outputs)):
            found[key] = made
    return found


def _same(record: RunRecord, run: PlannedRun) -> bool:
    """Two identities may share eight digits. Where identity.json is lost, the record counts as damaged."""
    return record.damaged or identity_of(record) == run.identity


def identity_of(record: RunRecord) -> Mapping[str, Any]:
    """The run's identity; empty where the file went away, or was damaged, since the run was read."""
    try:
        return record.identity
    except (OSError, ValueError):
        return {}


def _rank(record: RunRecord) -> tuple[bool, bool, bool, int]:
    return not record.damaged, record.status == DONE, record.status in (RUNNING, WAITING), record.steps


def standing(record: RunRecord | None) -> str:
    """done, partial, running, queued, failed, missing or damaged."""
    if record is None:
        return MISSING
    if record.damaged:
        return DAMAGED
    names = {DONE: DONE_RUN, RUNNING: RUNNING_RUN, WAITING: RUNNING_RUN, FAILED: FAILED_RUN, QUEUED: QUEUED_RUN}
    return names.get(record.status, PARTIAL if record.steps else MISSING)
