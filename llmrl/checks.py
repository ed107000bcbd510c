"""Field types of the Config dataclasses: what a value may be, checked once when a run is composed."""

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
