"""A table's yaml, checked: title, rows, columns, score, metrics, claims (docs/tables.md explains the keys)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrl.checks import ConfigError, nearest
from llmrl.report.tables.metrics import NORMALISED, checked

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Line:
    """A row, or a column. `published` is what the published table calls it; null: as we do."""

    __pydantic_config__ = STRICT
    set: tuple[str, ...] = ()  # overrides, as `llmrl run` takes them
    published: str | None = None
    metric: str | None = None  # where it is another than the table's
    evaluation_set: str | None = None  # whose cases count, where these are not the common ones
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
class Normalise:
    """The columns whose means count 0 and 100 % in a row, for metric: normalised."""

    __pydantic_config__ = STRICT
    low: str
    high: str


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
    metric: str
    normalise: Normalise | None = None
    published: str | None = None
    summary: dict[str, Literal["mean", "median", "iqm"]] | None = None
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()

    def evaluation_set(self, row: str, column: str) -> str | None:
        """The evaluation cases that a cell is of; None: the common ones."""
        return self.columns[column].evaluation_set or self.rows[row].evaluation_set

    def metric_of(self, column: str) -> str:
        """What a column's numbers are."""
        return self.columns[column].metric or self.metric

    def measured(self, metric: str) -> str:
        """What is measured of a run for a metric: `normalised` is of the table's own."""
        return self.metric if metric == NORMALISED else metric


def read(file: Path) -> Table:
    """Raises ConfigError, naming file and key, where the yaml is not a table."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML ({error})") from None
    for part in ("rows", "columns"):
        if isinstance(tree, dict) and isinstance(tree.get(part), dict):
            lines = tree[part].items()
            tree[part] = {str(name): {"set": line} if isinstance(line, list) else line for name, line in lines}
    try:
        table = TypeAdapter(Table).validate_python(tree)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{file}: {wrong}. docs/tables.md explains the keys of a table") from None
    try:
        _check(table)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return table


def _check(table: Table) -> None:
    """Raises ConfigError where a name in the table is that of nothing."""
    used = {checked(metric) for metric in (table.metric, *(line.metric for line in table.columns.values())) if metric}
    if table.normalise is not None:
        chosen(table.columns, (table.normalise.low, table.normalise.high), "normalise: column")
    elif NORMALISED in used:
        raise ConfigError("metric: normalised needs normalise: {low: <column>, high: <column>}")
    for claim in table.claims:
        chosen(table.columns, (claim.better, claim.than), "claims: column")
        chosen(table.rows, claim.rows or (), "claims: row")
        metrics = [table.metric_of(column) for column in (claim.better, claim.than)]
        if len(set(metrics)) > 1:
            raise ConfigError(
                f"claims: {claim.text!r} compares {metrics[0]} ({claim.better}) with {metrics[1]} ({claim.than}); name "
                "columns with the same metric"
            )


def chosen(lines: Mapping[str, Line], labels: Iterable[str], what: str) -> list[str]:
    """These labels (all where none is given), in the table's order. Raises ConfigError for an unknown one."""
    labels = list(labels)
    for label in labels:
        if label not in lines:
            raise ConfigError(f"{what}: there is no `{label}`.{nearest(label, lines)}")
    return [label for label in lines if not labels or label in labels]
