"""What a user may give: field types of the Config dataclasses, checked once when a run is composed, and the error for
what cannot be."""

import difflib
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator, BeforeValidator

LARGEST = 2**63 - 1  # numpy and torch count no further


def _whole(value: Any) -> Any:
    """1e5 is a whole number to whoever writes it; true is none, though Python counts with it."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def path_of(text: str) -> str:
    """A path as a user writes it, with `~` for a home directory. Raises ValueError for what names no file."""
    expanded = os.path.expanduser(text)
    if not text.strip() or not text.isprintable():
        raise ValueError("must be a path")
    if expanded.startswith("~"):
        raise ValueError(f"there is no home directory {expanded.partition('/')[0]}; a directory of that name is ./~…")
    return expanded


Whole = BeforeValidator(_whole)  # of every field that holds whole numbers
Count = Annotated[int, Whole, Interval(gt=0, le=LARGEST)]
SideBySide = Annotated[int, Whole, Interval(gt=0, le=10_000)]  # environments, or processes
Episodes = Annotated[int, Whole, Interval(gt=0, le=1_000_000)]  # of an evaluation, each a case that is kept
NonNegativeInt = Annotated[int, Whole, Interval(ge=0, le=LARGEST)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
HalfOpenUnit = Annotated[float, Interval(gt=0, le=1)]
PathText = Annotated[str, AfterValidator(path_of)]


class ConfigError(Exception):
    """The user asked for something that cannot be run; the text says what, where and what to do (exit code 2)."""


def raised(error: BaseException) -> str:
    """An exception that somebody's code raised, in one line, with the place: ValueError: no such map (maze.py:12)."""
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({frame[0].filename}:{frame[0].lineno})" if frame else ""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}{where}"


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """While a library reads the dataset in `folder`: whatever it raises for a file that is not as it should be becomes
    a ConfigError that names the folder."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise ConfigError(
            f"the dataset in {folder} is damaged ({type(error).__name__}: {error}); bring or record it anew"
        ) from error


def nearest(name: str, names: Iterable[str]) -> str:
    """' Did you mean …?' for the other name that is nearest, or all names where none is near and they are few."""
    names = sorted(set(names) - {name})
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f" Did you mean `{near[0]}`?"
    return f" There are: {', '.join(names)}." if 0 < len(names) <= 30 else ""
