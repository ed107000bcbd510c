"""How a table writes its numbers: all of one metric with the same decimals, chosen by the largest."""

from collections.abc import Iterable

from llmrl.report.stats import Estimate


def decimals(ours: Iterable[float], published: Iterable[float] = ()) -> int:
    """Two below 100, one up to 10,000, then none. Up to 1 (rates) as many as the published numbers have, two or three;
    without such, four where all are below 0.1. A published number below 10 keeps two."""
    theirs = list(published)
    largest = max(map(abs, [*ours, *theirs]), default=0.0)
    if 0 < largest <= 1 and theirs:
        return 3 if any(abs(value - round(value, 2)) > 1e-9 for value in theirs) else 2
    small = largest < 100 or any(0 < abs(value) < 10 for value in theirs)
    return 4 if 0 < largest < 0.1 else 2 if small else 1 if largest < 10_000 else 0


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """1,234.5"""
    return f"{value:{'+' if sign else ''},.{digits}f}"


def interval(low: float | None, high: float | None, digits: int) -> str:
    """[low, high], where there is one."""
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def estimate(found: Estimate | None, digits: int, *, sign: bool = False) -> str:
    """value [low, high]"""
    if found is None:
        return ""
    return f"{number(found.value, digits, sign=sign)} {interval(found.low, found.high, digits)}".strip()


def plus_minus(found: Estimate, digits: int, marks: str = "") -> str:
    """value ± half of the interval; a bootstrap's, which is not symmetric, with both ends."""
    shown = number(found.value, digits) + marks
    if found.low is None or found.high is None:
        return shown
    up, down = found.high - found.value, found.value - found.low
    if abs(up - down) > 1e-6 * max(abs(up), abs(down), 1e-300):
        return f"{shown} {interval(found.low, found.high, digits)}"
    return f"{shown} ± {number(up, digits)}"
