"""Numbers that others published, from published/*.csv here and in the directories of LLMRL_PATH: each with its source,
and empty where nobody has seen it."""

import csv
import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from llmrl.checks import ConfigError
from llmrl.conf_files import extra_roots

DIRECTORY = Path(__file__).with_name("published")
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
    value: float | None  # None: no one has seen the number
    spread: float | None  # standard deviation over the n runs, where it is known
    n: int | None  # runs
    unit: str
    seen: str  # how the number was read, one of SEEN
    source: str
    note: str


COLUMNS = [field.name for field in fields(Published)]


def published(directory: Path | None = None) -> dict[Key, Published]:
    """All cells of all csv files: of `directory`, or ours and those below LLMRL_PATH. Raises ConfigError, naming file
    and line, where a row has no source, a value is no number, or a cell is given twice."""
    own = [root / "published" for root in extra_roots()]
    return _read(directory) if directory else _read(DIRECTORY, *own)


@cache
def _read(*directories: Path) -> dict[Key, Published]:
    cells: dict[Key, Published] = {}
    places: dict[Key, str] = {}
    for file in (file for directory in directories for file in sorted(directory.glob("*.csv"))):
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
        raise ConfigError(f"{where}: {len(COLUMNS)} columns are asked for; a text with a comma needs quotes")
    if not row["source"].strip():
        raise ConfigError(f"{where}: a number without a source is not shown; say where it was read")
    if row["seen"] not in SEEN and (row["seen"] or row["value"].strip()):
        raise ConfigError(f"{where}: seen says how the number was read: {', '.join(SEEN)}; not {row['seen']!r}")
    numbers = {}
    for name, kind in (("value", float), ("spread", float), ("n", int)):
        try:
            numbers[name] = kind(row[name]) if row[name].strip() else None
            if not math.isfinite(numbers[name] or 0):
                raise ValueError
        except ValueError:
            raise ConfigError(f"{where}: {name} is no number: {row[name]!r}") from None
    return Published(**row | numbers)


def lookup(paper: str, table: str, row: str, column: str, *, directory: Path | None = None) -> Published:
    """One cell; its value is None where nobody has seen the number. ConfigError where no file has such a cell."""
    cells, key = published(directory), (paper, table, row, column)
    if key not in cells:
        depth = next(d for d in range(4) if key[: d + 1] not in {k[: d + 1] for k in cells})
        here = sorted({k[depth] for k in cells if k[:depth] == key[:depth]})
        near = difflib.get_close_matches(key[depth], here, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(here)}."
        place = " / ".join(("published", *key[:depth]))
        raise ConfigError(f"{place}: there is no `{key[depth]}`. {hint} An unseen number is a row with an empty value.")
    return cells[key]


def atari_reference() -> dict[str, tuple[float, float]]:
    """{env: (random, human)} of the 26 games of Atari-100k, for `stats.human_normalised`."""
    cells = [c for c in published().values() if (c.paper, c.table) == ("atari", "reference")]
    scores = {(c.env, c.column): c.value for c in cells}
    envs = dict.fromkeys(c.env for c in cells)
    both = {env: (scores.get((env, "random")), scores.get((env, "human"))) for env in envs}
    return {env: pair for env, pair in both.items() if None not in pair}  # a file of one's own may know but one
