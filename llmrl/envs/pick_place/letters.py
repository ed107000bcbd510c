"""The things that are picked: nine letters and a block, as flat shapes, and their masks at any pixel and yaw.

The shapes are our own. Each is a union of convex pieces in millimetres, seen from above, x right and y up, the origin
in the middle of its box; footprints of O R V T G L are those of explorllm.md 10.1, those of A E M are ours. Convex
pieces make holes without special cases: a prism per piece is the whole letter in a simulator.
"""

import difflib
from collections.abc import Iterable, Sequence
from functools import cache
from math import cos, floor, radians, sin

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError

PIXEL = 0.6 / 224  # metres of one pixel of the 224-pixel frame
FINE = 4  # samples of a mask per such pixel: positions are exact to a quarter of a pixel, 0.67 mm
SIZE = 224  # samples of a mask's side: 150 mm, wider than any letter's diagonal
YAWS = 180  # masks are cached on a grid of 2 degrees
Polygon = tuple[tuple[float, float], ...]


def _box(left: float, bottom: float, right: float, top: float) -> list[Polygon]:
    return [((left, bottom), (right, bottom), (right, top), (left, top))]


def _arc(centre: tuple, outer: tuple, inner: tuple, start: float, stop: float, pieces: int = 24) -> list[Polygon]:
    """The band between two ellipses (their half axes), from `start` to `stop` degrees, as quadrilaterals."""
    x, y = centre
    edges = [radians(a) for a in np.linspace(start, stop, pieces + 1).tolist()]
    rays = [[(x + rx * cos(a), y + ry * sin(a)) for rx, ry in (inner, outer)] for a in edges]
    return [(a[0], a[1], b[1], b[0]) for a, b in zip(rays, rays[1:])]


def _mirror(pieces: list[Polygon]) -> list[Polygon]:
    """Mirrored left to right."""
    return [tuple((-x, y) for x, y in piece) for piece in pieces]


_V_ARM: list[Polygon] = [((-39.15, 47.3), (-17.95, 47.3), (10.0, -47.3), (-10.0, -47.3))]
_A_LEG: list[Polygon] = [((-42.0, -47.3), (-18.0, -47.3), (12.0, 47.3), (-12.0, 47.3))]
_M_STROKE: list[Polygon] = [((-50.0, 47.3), (-24.0, 47.3), (12.0, -25.0), (-12.0, -25.0))]

PIECES: dict[str, list[Polygon]] = {
    "O": _arc((0, 0), (50, 50), (21.15, 21.15), 0, 360, pieces=36),
    # heavy in the middle: so the explore policy holds it as often as 9.4 says (R alone: +0.90)
    "R": _box(-33.75, -47.3, -17.5, 47.3)
    + _box(-17.5, 34.0, 4, 47.3)
    + _box(-17.5, -21.0, 10, 11.0)
    + _arc((4, 17.15), (29.75, 30.15), (17.0, 16.5), -90, 90)
    + [((-10.0, -16.0), (15.0, -16.0), (33.75, -47.3), (17.0, -47.3))],
    "V": _V_ARM + _mirror(_V_ARM),
    "A": _A_LEG + _mirror(_A_LEG) + _box(-26, -24, 26, -4),
    "T": _box(-50, 20, 50, 50) + _box(-15, -50, 15, 20),
    "G": _arc((2.0, 0), (39.8, 48.5), (19.8, 28.5), 50, 335) + _box(4, -16, 37.8, 4),
    "E": _box(-33, -47.3, -10, 47.3)
    + _box(-10, 26.3, 33, 47.3)
    + _box(-10, -10.5, 28, 10.5)
    + _box(-10, -47.3, 33, -26.3),
    "L": _box(-50, -50, -18.5, 50) + _box(-18.5, -50, 50, -18.5),
    "M": _box(-50, -47.3, -26, 47.3) + _box(26, -47.3, 50, 47.3) + _M_STROKE + _mirror(_M_STROKE),
    "block": _box(-20, -20, 20, 20),
}
BOWL = "bowl"  # not picked, but drawn like them
BOWL_RADIUS = 57.0  # mm


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that is not known: with the nearest one, or all of them."""
    near = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), near, n=1, cutoff=0.5)
    hint = f"Did you mean {near[found[0]]!r}?" if found else f"There are: {', '.join(near.values())}."
    return f"there is no {kind} {name!r}. {hint}"


def check(name: str) -> str:
    """The name of a shape that can be picked. Raises ConfigError, with the nearest name, for any other."""
    if name not in PIECES:
        raise ConfigError(unknown("letter", name, PIECES))
    return name


def pieces(name: str, scale: float) -> list[NDArray[np.float64]]:
    """The convex pieces of a letter, each (corners, 2) in metres, x right and y up. A block knows no scale."""
    factor = 1e-3 if name == "block" else 1e-3 * scale
    return [np.array(piece) * factor for piece in PIECES[check(name)]]


def yaw_step(yaw: float) -> int:
    """The nearest yaw of the grid, for a yaw in radians, counter-clockwise seen from above."""
    return round(yaw * YAWS / (2 * np.pi)) % YAWS


def mask(name: str, scale: float, yaw: int) -> NDArray[np.bool_]:
    """(SIZE, SIZE) at a yaw of the grid, row down, column right, FINE samples a pixel, the origin in the middle."""
    import cv2

    canvas = np.zeros((SIZE, SIZE), np.uint8)
    if name == BOWL:
        row, column = np.ogrid[:SIZE, :SIZE]
        reach = BOWL_RADIUS / 1000 / PIXEL * FINE
        return np.asarray((row + 0.5 - SIZE / 2) ** 2 + (column + 0.5 - SIZE / 2) ** 2 <= reach**2)
    angle, shift = 2 * np.pi * yaw / YAWS, 8  # cv2 takes corners in 1/256 of a sample
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    for piece in pieces(name, scale):
        x, y = (piece @ turn).T / PIXEL * FINE
        corners = np.stack([SIZE / 2 + x, SIZE / 2 - y], axis=1) - 0.5  # cv2's pixel 0 has its middle at 0
        cv2.fillConvexPoly(canvas, np.rint(corners * 2**shift).astype(np.int32), 1, shift=shift)
    return canvas.astype(bool)


@cache
def phases(name: str, scale: float, yaw: int, step: int) -> NDArray[np.bool_]:
    """The mask as step x step smaller ones, [i, j] = mask[i::step, j::step]: what pixels of `step` samples see of it,
    one for each place that it can have between them. Contiguous, since a crop is drawn from one of them."""
    parts = mask(name, scale, yaw).reshape(SIZE // step, step, SIZE // step, step).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(parts)


@cache
def extent(name: str, scale: float, yaw: int) -> tuple[float, float]:
    """How far a shape reaches from its origin along each axis, in pixels of the 224 frame."""
    rows, columns = (abs(index + 0.5 - SIZE / 2).max() + 0.5 for index in np.nonzero(mask(name, scale, yaw)))
    return float(rows) / FINE, float(columns) / FINE


def overlap(
    shape: NDArray[np.bool_], centre: Sequence[float], corner: Sequence[int], size: Sequence[int]
) -> tuple[slice, slice, NDArray[np.bool_]] | None:
    """A shape seen in a window of pixels: rows and columns of the window that it may touch, and its samples there.

    shape: its `phases` for pixels of `step` samples (FINE: those of the 224 frame, 2 FINE: the half-resolution ones);
    centre: (u, v) in pixels of the 224 frame; corner and size: of the window, in its own pixels. A pixel has the sample
    in its middle. None where they do not touch.
    """
    step, count = len(shape), shape.shape[2]
    row, u = divmod(floor(step * corner[0] + step / 2 - FINE * centre[0]) + SIZE // 2, step)
    column, v = divmod(floor(step * corner[1] + step / 2 - FINE * centre[1]) + SIZE // 2, step)
    top, bottom = max(0, -row), min(size[0], count - row)
    left, right = max(0, -column), min(size[1], count - column)
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right), shape[u, v, row + top : row + bottom, column + left : column + right]
