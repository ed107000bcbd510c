"""Numbers out of an LLM's answer: one per action or dimension, signed, validated, every failure with a name.

The answer is asked for as JSON, `{"0": 0.5, "1": 0.5}`; the loose form `{0: 50%, 1: 5e-1}` is read as well.
"""

import math
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Parser = Literal["json", "authors_regex"]
Reason = Literal[
    "empty", "truncated", "repeated", "not_json", "wrong_length", "not_a_number", "not_finite", "negative", "all_zero"
]

_BLOCK = re.compile(r"\{[^{}]*\}")
_COMMENT = re.compile(r"(//|#)[^\n]*")
_KEY = re.compile(r"""(["']?) ?([0-9]{1,9}) ?\1""")
_PAIR = re.compile(_KEY.pattern + r"\s*:")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(?:(e[+-]?[0-9]+)|( ?%))?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_AROUND = ('""', "''", "[]", "**")  # what may stand around a number
NUMBER_CHARS = 400  # of the longest number that is one: 1e308 in full, and some decimals


class ParseError(ValueError):
    """The answer cannot be used; `reason` is the failure's name, the text says what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def parse_probabilities(text: str | None, n: int, parser: Parser = "json") -> NDArray[np.float64]:
    """The distribution over n actions in an answer: (n,), at least 0, sum 1. Raises ParseError."""
    weights = parse_numbers(text, n, parser)
    if (weights < 0).any():
        raise ParseError("negative", f"the probability of {int(weights.argmin())} is {weights.min():g}")
    if not weights.any():
        raise ParseError("all_zero", f"all {n} probabilities are 0")
    weights = weights / weights.max()  # first, so that the sum cannot overflow
    return weights / weights.sum()


def parse_biases(text: str | None, n: int, parser: Parser = "json") -> NDArray[np.float64]:
    """The biases of n action dimensions in an answer: (n,), in action units. Raises ParseError."""
    return parse_numbers(text, n, parser)


def parse_numbers(text: str | None, n: int, parser: Parser = "json") -> NDArray[np.float64]:
    """The n finite numbers in an answer, by their keys: (n,). Raises ParseError."""
    if text is None or not text.strip():
        raise ParseError("empty", "there is no text")
    values = _authors_regex(text, n) if parser == "authors_regex" else _last_block(text, n)
    if not all(math.isfinite(value) for value in values):
        raise ParseError("not_finite", f"found {values}")
    return np.array(values, dtype=np.float64) + 0.0  # -0.0 becomes 0.0


def _last_block(text: str, n: int) -> list[float]:
    blocks = list(_BLOCK.finditer(text))
    if text.rfind("{") >= (blocks[-1].end() if blocks else 0):
        raise ParseError("truncated", "the last { is never closed")
    if not blocks:
        raise ParseError("not_json", "there is no {…} block")
    with_pairs = [block for block in blocks if _PAIR.search(block[0])]  # prose may have others: {0, 1}, f"{p}"
    found: dict[int, float] = {}
    for entry in _COMMENT.sub("", (with_pairs or blocks)[-1][0][1:-1]).split(","):
        if not entry.strip():
            continue
        name, colon, value = entry.partition(":")
        match = _KEY.fullmatch(name.strip())
        if match is None or not colon:
            raise ParseError("not_json", f"{entry.strip()[:60]!r} is no number: value pair")
        key = int(match[2])
        if key in found:
            raise ParseError("wrong_length", f"key {key} stands there twice")
        found[key] = _number(value)
    first = 1 if set(found) == set(range(1, n + 1)) else 0  # counted from 1 only where that fits exactly
    if set(found) != set(range(first, first + n)):
        raise ParseError("wrong_length", f"keys {sorted(found)[:40]}, asked for 0 to {n - 1}")
    return [found[key] for key in range(first, first + n)]


def _number(text: str) -> float:
    token = text.strip()
    for _ in range(2):  # such as ["0.5"]
        token = token[1:-1].strip() if len(token) > 1 and token[0] + token[-1] in _AROUND else token
    token = token.replace("\N{MINUS SIGN}", "-")
    if _NOT_FINITE.fullmatch(token):
        raise ParseError("not_finite", f"found {text.strip()[:60]!r}")
    match = _NUMBER.fullmatch(token) if len(token) <= NUMBER_CHARS else None
    if match is None:
        raise ParseError("not_a_number", f"found {text.strip()[:60]!r}")
    return float(token.rstrip("% ")) * (0.01 if match[4] else 1.0)


def _authors_regex(text: str, n: int) -> list[float]:
    """As in the LLM-Explorer authors' code: the last n decimals anywhere in the text.

    Its quirks are the point: a minus sign is lost, 0, .5 and 1e-3 are not seen, later decimals shift the vector.
    """
    numbers = re.findall(r"\b\d*\.\d+\b", text)[-n:]
    if len(numbers) != n:
        raise ParseError("wrong_length", f"{len(numbers)} decimal numbers, asked for {n}")
    return [float(number) for number in numbers]
