"""Every interval that is shown, 95 % where nothing else is said: Student's t of means, Wilson's of a share of episodes.

None is given below three runs (or episodes): two of them say next to nothing of how a third would differ, and what is
shown then is the value and n.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

MIN_N = 3
Interval = tuple[float, float] | tuple[None, None]


def around(value: float, sides: Sequence[tuple[float, int]], confidence: float = 0.95) -> Interval:
    """The t interval around a value that is a sum of independent means, or one: `sides` are (variance of a value, n).

    The variance of the sum is Σ s²/n, with (Σ s²/n)² / Σ (s²/n)²/(n - 1) degrees of freedom (Welch 1947): n - 1 for a
    single mean. (None, None) where a side has fewer than 3 values."""
    from scipy.special import stdtrit  # here, since a finished run says so without it

    if any(n < MIN_N for _, n in sides):
        return None, None
    variance = sum(s2 / n for s2, n in sides)
    if variance == 0:
        return value, value
    freedom = variance**2 / sum((s2 / n) ** 2 / (n - 1) for s2, n in sides)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
    return value - half, value + half


def side(values: ArrayLike) -> tuple[float, int]:
    """Values as a side of `around`."""
    values = np.asarray(values, np.float64)
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0, len(values)


def half_width(values: ArrayLike) -> float | None:
    """Half of the interval of the mean; None below 3 values."""
    low, high = around(0.0, [side(values)])
    return None if low is None or high is None else (high - low) / 2


def mean_and_interval(values: Sequence[float]) -> str:
    """'209.5 ± 1.4', or '209.5' below 3 values."""
    half = half_width(values)
    return f"{np.mean(values):,.1f}" + ("" if half is None else f" ± {half:,.1f}")


def over_episodes(n: int) -> str:
    """What stands behind `mean_and_interval`, of n episodes."""
    return "±: 95 % over episodes" if n >= MIN_N else f"no interval below {MIN_N} episodes"


def share(successes: Sequence[bool], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """The share of episodes that succeeded, with Wilson's score interval, which stays within 0 … 1 and has a width
    where all or none succeed; without one below 3 episodes."""
    from scipy.special import ndtri

    n, p = len(successes), float(np.mean(successes))
    if n < MIN_N:
        return p, None, None
    z = float(ndtri((1 + confidence) / 2))
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def share_and_interval(successes: Sequence[bool]) -> str:
    """'0.70 [0.40, 0.89]', or '0.50' below 3 episodes."""
    p, low, high = share(successes)
    return f"{p:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")
