"""A table's yaml -> its cells -> the runs that each cell is made of, and where these stand on disk.

A run is known by its identity, so a cell finds its runs in whatever study they were made. Composing a configuration is
not this module's part: whoever asks for cells passes `identify`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrl.checks import ConfigError
from llmrl.config.scaling import shortened
from llmrl.report.store import RunRecord, load_artifact
from llmrl.runs.identity import DONE, FAILED, RUNNING, WAITING, RunDirectory

Metric = Literal[
    "return",
    "human_normalised",
    "success",
    "success_authors",
    "success_official",
    "usd",
    "hours",
    "env_steps_total",
    "llm_calls",
    "prompt_tokens",
    "completion_tokens",
    "match",
    "outside_workbench",
    "beyond_dynamics",
]
DONE_RUN, PARTIAL, RUNNING_RUN, FAILED_RUN = "done", "partial", "running", "failed"
MISSING, DAMAGED = "missing", "damaged"
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Line:
    """A row, or a column. `published` is what the published table calls it; null: as we do."""

    __pydantic_config__ = STRICT
    set: tuple[str, ...] = ()  # overrides, as `llmrl run` takes them
    published: str | None = None
    metric: Metric | None = None  # where it is another than the table's
    suite: str | None = None  # of evaluation cases, where these are not the common ones
    curves: str | None = None  # of a row: the published table whose rows are learning curves, its columns env_steps


@dataclass(frozen=True)
class Claim:
    """A statement of the paper: column `better` is above column `than`."""

    __pydantic_config__ = STRICT
    text: str
    better: str
    than: str
    over: Literal["mean", "each", "most"]  # the rows: averaged | in every one | in more than half of them
    rows: tuple[str, ...] | None = None  # null: all


@dataclass(frozen=True)
class Table:
    """conf/table/<paper>/<name>.yaml; docs/tables.md explains the keys."""

    __pydantic_config__ = STRICT
    title: str
    base: tuple[str, ...]
    rows: dict[str, Line]
    columns: dict[str, Line]
    seeds: tuple[int, ...]
    score: str
    metric: Metric
    published: str | None = None
    summary: dict[str, Literal["mean", "median", "iqm"]] | None = None
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()

    def suite(self, row: str, column: str) -> str | None:
        """The evaluation cases that a cell is of; None: the common ones."""
        return self.columns[column].suite or self.rows[row].suite

    def metric_of(self, column: str) -> Metric:
        """What a column's numbers are."""
        return self.columns[column].metric or self.metric


class Stage(NamedTuple):
    """What several runs build on, made once: a search, a dataset. It is a run, in a directory of outputs/artifacts."""

    path: Path
    steps: int
    unit: str
    node: Mapping[str, Any]  # what `llmrl run --from` reads there
    asks: bool = False  # whether an LLM is asked for it

    def __hash__(self) -> int:
        return hash(self.path)


@dataclass(frozen=True, eq=False)
class Wanted:
    """A run of the grid, made or not."""

    overrides: tuple[str, ...]  # `llmrl run` takes them, with the seed
    outputs: Path
    path: Path  # where it would be made, in the study of its preset
    id: str
    identity: Mapping[str, Any]
    names: Mapping[str, str]  # method, agent, env
    seed: int
    unit: str  # env_steps, or updates of offline training
    steps: int
    device: str
    llm: str | None  # the model, where the method reads one
    stages: tuple[Stage, ...] = ()

    @property
    def key(self) -> tuple[int, str]:
        return self.seed, self.id


class Cell(NamedTuple):
    """Where a row and a column meet."""

    row: str
    column: str
    runs: tuple[Wanted, ...]  # one per seed

    @property
    def env(self) -> str:
        return self.runs[0].names["env"]


Identify = Callable[[Sequence[str], Sequence[int]], tuple[Wanted, ...]]  # (overrides, seeds) -> runs


def read(file: Path) -> Table:
    """Raises ConfigError, naming file and key, where the yaml is no table."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: no YAML ({error})") from None
    for part in ("rows", "columns"):
        if isinstance(tree, dict) and isinstance(tree.get(part), dict):
            lines = tree[part].items()
            tree[part] = {str(name): {"set": line} if isinstance(line, list) else line for name, line in lines}
    try:
        table = TypeAdapter(Table).validate_python(tree)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{file}: {told}. docs/tables.md explains the keys of a table") from None
    for claim in table.claims:
        chosen(table.columns, (claim.better, claim.than), f"{file}: claims: column")
        chosen(table.rows, claim.rows or (), f"{file}: claims: row")
        metrics = [table.metric_of(column) for column in (claim.better, claim.than)]
        if len(set(metrics)) > 1:
            told = f"{metrics[0]} ({claim.better}) with {metrics[1]} ({claim.than})"
            raise ConfigError(f"{file}: claims: {claim.text!r} compares {told}; name columns with the same metric")
    return table


def chosen(lines: Mapping[str, Line], wanted: Iterable[str], what: str) -> list[str]:
    """The labels that are wanted (all where none is), in the table's order. ConfigError for others."""
    wanted = list(wanted)
    for label in wanted:
        if label not in lines:
            near = difflib.get_close_matches(label, lines, n=1, cutoff=0.5)
            hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(lines)}."
            raise ConfigError(f"{what}: there is no `{label}`. {hint}")
    return [label for label in lines if not wanted or label in wanted]


def cells(
    table: Table,
    rows: Sequence[str],
    columns: Sequence[str],
    seeds: Sequence[int],
    extra: Sequence[str],
    identify: Identify,
) -> list[Cell]:
    """All cells, row by row. Later overrides win: the table's, the row's, the column's, `extra`. Equal lists of
    overrides (columns that show another number of the same runs) are composed once."""
    known: dict[tuple[str, ...], tuple[Wanted, ...]] = {}
    found = []
    for row in rows:
        for column in columns:
            own = merged(*table.base, *table.rows[row].set, *table.columns[column].set)
            overrides = merged(*shortened(own, extra), *extra)
            if overrides not in known:
                known[overrides] = identify(overrides, seeds)
            found.append(Cell(row, column, known[overrides]))
    return found


def merged(*overrides: str) -> tuple[str, ...]:
    """Overrides of which each key stands once: the last one wins."""
    return tuple({text.partition("=")[0]: text for text in overrides}.values())


def runs_of(cells: Iterable[Cell]) -> list[Wanted]:
    """Every run once, in the order of the cells; two columns may want the same."""
    return list({run.key: run for cell in cells for run in cell.runs}.values())


def stages_of(wanted: Iterable[Wanted]) -> list[Stage]:
    """What the runs build on, each once."""
    return list({stage.path: stage for run in wanted for stage in run.stages}.values())


def stage_done(stage: Stage) -> int:
    """How much of it there is, in its unit."""
    done = RunDirectory(stage.path).status().get(stage.unit, 0)
    return min(done, stage.steps) if isinstance(done, int) else 0


def stage_standing(stage: Stage) -> str:
    """done, partial, running, failed or missing."""
    status = RunDirectory(stage.path).status().get("status")
    names = {None: MISSING, DONE: DONE_RUN, RUNNING: RUNNING_RUN, WAITING: RUNNING_RUN, FAILED: FAILED_RUN}
    return names.get(status, PARTIAL)


def find(wanted: Iterable[Wanted], records: Iterable[RunRecord]) -> dict[tuple[int, str], RunRecord]:
    """What there is on disk of each run, by its key. Of several, the one that is furthest. What others build on has one
    place, where it is looked for beside the records."""
    keys = {run.key: run for run in wanted}
    found: dict[tuple[int, str], RunRecord] = {}
    for record in records:
        key = record.seed, record.id
        if key in keys and _same(record, keys[key]) and (key not in found or _rank(record) > _rank(found[key])):
            found[key] = record
    for key, run in keys.items():
        if run.path.is_relative_to(run.outputs / "artifacts") and (record := load_artifact(run.path, run.outputs)):
            found[key] = record
    return found


def _same(record: RunRecord, run: Wanted) -> bool:
    """Two identities may share eight digits. Where identity.json is lost, the record is shown as damaged."""
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
    """done, partial, running, failed, missing or damaged."""
    if record is None:
        return MISSING
    if record.damaged:
        return DAMAGED
    names = {DONE: DONE_RUN, RUNNING: RUNNING_RUN, WAITING: RUNNING_RUN, FAILED: FAILED_RUN}
    return names.get(record.status, PARTIAL if record.steps else MISSING)
