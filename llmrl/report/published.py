"""Numbers that others published: each with its source, and empty where it is not known.

They lie with what they belong to: methods/<paper>/published.csv, envs/published/<suite>.csv.
"""

import csv
import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.conf_files import published_files

SEEN = {
    "verbatim": "stands so in the source",
    "digitised": "read off a figure",
    "derived": "computed from what the source says, or measured by its recipe",
    "inferred": "concluded: the source shows it in part",
}
Key = tuple[str, str, str, str]  # paper, table, row, column


@dataclass(frozen=True)
class Published:
    """A cell of a published table. Row and column are called as the paper calls them, method and env as we do."""

    paper: str
    table: str
    row: str
    column: str
    method: str
    env: str
    metric: str
    value: float | None  # None: not known
    spread: float | None  # standard deviation over the n runs, where it is known
    n: int | None  # runs
    unit: str
    seen: str  # how the number was read, one of SEEN
    source: str
    note: str


COLUMNS = [field.name for field in fields(Published)]


def published() -> dict[Key, Published]:
    """All cells of all files. Raises ConfigError, naming file and line, where a row has no source, a value is not a
    number, or a cell is given twice."""
    return read(*published_files())


@cache
def read(*files: Path) -> dict[Key, Published]:
    """The cells of these files. Raises ConfigError."""
    cells: dict[Key, Published] = {}
    places: dict[Key, str] = {}
    for file in files:
        for where, cell in _cells_of(file):
            key = cell.paper, cell.table, cell.row, cell.column
            if key in cells:
                raise ConfigError(f"{where}: {' / '.join(key)} is given twice (also in {places[key]})")
            cells[key], places[key] = cell, where
    return cells


def _cells_of(file: Path) -> Iterator[tuple[str, Published]]:
    """(file and line, what stands there), line by line."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:  # spreadsheets put a mark before the first column
            reader = csv.DictReader(lines)
            if reader.fieldnames != COLUMNS:
                raise ConfigError(f"{file}, line 1: the columns must be {','.join(COLUMNS)}")
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                yield where, _cell(row, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as csv in UTF-8: {error}") from None


def _cell(row: dict, where: str) -> Published:
    if None in row or None in row.values():
        raise ConfigError(f"{where}: {len(COLUMNS)} columns expected; quote a text that holds a comma")
    if not row["source"].strip():
        raise ConfigError(f"{where}: a number needs a source: name where it was read")
    if row["seen"] not in SEEN and (row["seen"] or row["value"].strip()):
        raise ConfigError(f"{where}: seen must be how the number was read ({', '.join(SEEN)}), not {row['seen']!r}")
    numbers: dict[str, float | int | None] = {}
    for name, kind in (("value", float), ("spread", float), ("n", int)):
        try:
            numbers[name] = kind(row[name]) if row[name].strip() else None
            if not math.isfinite(numbers[name] or 0):
                raise ValueError
        except ValueError:
            raise ConfigError(f"{where}: {name} is not a number: {row[name]!r}") from None
    return Published(**row | numbers)


def lookup(paper: str, table: str, row: str, column: str) -> Published:
    """One cell; its value is None where the number is not known. ConfigError where no file has such a cell."""
    cells, key = published(), (paper, table, row, column)
    if key not in cells:
        depth = next(d for d in range(4) if key[: d + 1] not in {k[: d + 1] for k in cells})
        here = sorted({k[depth] for k in cells if k[:depth] == key[:depth]})
        near = difflib.get_close_matches(key[depth], here, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(here)}."
        place = " / ".join(("published", *key[:depth]))
        raise ConfigError(f"{place}: there is no `{key[depth]}`. {hint} Not known: an empty value.")
    return cells[key]


def atari_reference() -> dict[str, tuple[float, float]]:
    """{env: (random, human)} of the 26 games of Atari-100k, for `stats.human_normalised`."""
    cells = [c for c in published().values() if (c.paper, c.table) == ("atari", "reference")]
    scores = {(c.env, c.column): c.value for c in cells if c.value is not None}
    envs = dict.fromkeys(c.env for c in cells)  # a file of the user's may know one of the two alone
    return {
        e: (scores[e, "random"], scores[e, "human"]) for e in envs if {(e, "random"), (e, "human")} <= scores.keys()
    }
