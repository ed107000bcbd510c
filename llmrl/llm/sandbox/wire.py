"""Messages between the trainer and the sandbox's child: a name, a few arrays or a text, as plain bytes.

    message = length of the rest (u32) | length of the header (u16) | header | payload
    header  = name | 0 | for each array: number of its dtype (u8), number of dimensions (u8), each dimension (u32)
    payload = the arrays one after another in C order, native byte order; or a text in UTF-8

A header says the whole layout, so whoever got the same header before needs no second look at it. Reading checks
everything that a header claims: the child may send any bytes. This file is imported by both sides, and by the child
without the rest of llmrl.
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

DTYPES = [np.dtype(t) for t in ("float64", "float32", "int64", "int32", "bool", "uint8")]
MAX_ARRAYS, MAX_DIMENSIONS, MAX_HEADER = 16, 8, 1000
START = struct.Struct("<IH")
_BOOL = DTYPES[4]
_NUMBER = {dtype: number for number, dtype in enumerate(DTYPES)}

Place = tuple[np.dtype, tuple[int, ...], int]  # an array's dtype, shape, offset in the payload
Layout = tuple[str, list[Place], int]  # name, arrays, bytes of the payload


class WireError(ValueError):
    """These are no arrays that may cross, or bytes that are no message."""


def header(name: str, arrays: Sequence[NDArray]) -> bytes:
    """The header of a message. Raises WireError where the arrays cannot cross."""
    if len(arrays) > MAX_ARRAYS:
        raise WireError(f"{len(arrays)} arrays, at most {MAX_ARRAYS} can cross")
    parts = [name.encode("ascii"), b"\0"]
    for array in arrays:
        if array.dtype not in _NUMBER:
            raise WireError(f"an array of {array.dtype}; it must hold {', '.join(map(str, DTYPES))}")
        if array.ndim > MAX_DIMENSIONS or any(n >= 2**32 for n in array.shape):
            raise WireError(f"an array of shape {array.shape}")
        parts.append(struct.pack(f"<BB{array.ndim}I", _NUMBER[array.dtype], array.ndim, *array.shape))
    return b"".join(parts)


class Beginnings:
    """How messages of arrays begin, up to the payload: calls come with the same few shapes again and again."""

    def __init__(self) -> None:
        self._made: dict[tuple, bytes] = {}

    def of(self, name: str, arrays: Sequence[NDArray]) -> bytes:
        key = (name, *[(array.dtype, array.shape) for array in arrays])
        found = self._made.get(key)
        if found is None:
            if len(self._made) == 64:
                self._made.clear()
            found = self._made[key] = beginning(header(name, arrays), sum(array.nbytes for array in arrays))
        return found


def beginning(head: bytes, payload_bytes: int) -> bytes:
    return START.pack(2 + len(head) + payload_bytes, len(head)) + head


def of_arrays(begins: bytes, arrays: Sequence[NDArray]) -> bytes:
    """A message of arrays."""
    return b"".join([begins, *[array.tobytes() for array in arrays]])


def of_text(name: str, text: str) -> bytes:
    """A message of a text."""
    payload = text.encode("utf-8", "replace")
    return beginning(header(name, ()), len(payload)) + payload


def layout(head: bytes) -> Layout:
    """What a header says. Raises WireError where it is no header."""
    name, zero, rest = head.partition(b"\0")
    if not zero or not name.isascii() or len(head) > MAX_HEADER:
        raise WireError("no header")
    arrays: list[Place] = []
    place, size = 0, 0
    while place < len(rest):
        if len(arrays) == MAX_ARRAYS or len(rest) < place + 2:
            raise WireError("too many arrays, or half an array")
        number, ndim = rest[place], rest[place + 1]
        end = place + 2 + 4 * ndim
        if number >= len(DTYPES) or ndim > MAX_DIMENSIONS or len(rest) < end:
            raise WireError("an unknown dtype, too many dimensions, or too few of them")
        shape = struct.unpack_from(f"<{ndim}I", rest, place + 2)
        arrays.append((DTYPES[number], shape, size))
        size += DTYPES[number].itemsize * prod(shape)
        place = end
    return name.decode("ascii"), arrays, size


def unpack(arrays: Sequence[Place], data: bytearray, start: int) -> tuple[NDArray, ...]:
    """The arrays of a layout; they share `data`, whose payload begins at `start`. A bool is any byte but 0: numpy does
    not define what other bytes than 0 and 1 would do. Raises WireError, for a shape that numpy does not have."""
    try:
        return tuple([
            np.ndarray(shape, dtype, data, start + place) if dtype is not _BOOL
            else np.asarray(np.ndarray(shape, np.uint8, data, start + place) != 0)
            for dtype, shape, place in arrays
        ])  # fmt: skip
    except (ValueError, TypeError) as error:
        raise WireError(str(error)) from None
