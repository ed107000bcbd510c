"""What a user may give: field types of the Config dataclasses, checked once when a run is composed, and the error for
what cannot be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Interval

Count = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
HalfOpenUnit = Annotated[float, Interval(gt=0, le=1)]


class ConfigError(Exception):
    """The user asked for something that cannot be run; the text says what, where and what to do (exit code 2)."""


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
