"""The table: its pixel frame, its colours, and a `Scene`, which is all that is drawn at random for an episode.

Source: docs/papers/explorllm.md. World coordinates are metres, x right and y up as the camera sees them;
pixels are (u, v) of the 224-pixel frame, u down and v right, and pixel i reaches from i to i + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.pick_place.letters import PIXEL, unknown

FRAME = 224  # pixels of the workspace's side
HALF = 112  # pixels of the half-resolution image that crops are cut from
LEFT, TOP = -0.3, -0.2  # x of column 0 and y of row 0 (m); the workspace is 0.6 m wide and high
SPAWN_X, SPAWN_Y = (-0.2, 0.2), (-0.7, -0.3)  # where objects start (m)
APART = 0.15  # centres are farther apart than this (m)
DRAWS = 100  # centres tried before a scene is begun anew

LETTER_HEIGHT, BLOCK_HEIGHT, BOWL_HEIGHT = 0.020, 0.040, 0.035  # m
HOME = (0.0, -0.2, 0.4)  # where the hand waits between primitives (m); in pixels:
HOME_PIXEL = (0.0, 112.0)

BACKGROUND = (45, 45, 45)  # the table
COLOURS = {
    "blue": (78, 121, 180),
    "red": (255, 87, 89),
    "green": (89, 179, 79),
    "yellow": (237, 201, 72),
    "cyan": (83, 150, 130),
    "orange": (246, 144, 81),
    "pink": (166, 104, 134),
}
BOWL_COLOURS = ("yellow", "green", "blue")
SLOTS = 6  # 0-2 are picked, 3-5 are the bowls


def to_pixels(xy: NDArray) -> NDArray[np.float64]:
    """(..., 2) metres (x, y) -> (..., 2) pixels (u, v)."""
    return (xy[..., ::-1] - (TOP, LEFT)) * (-1 / PIXEL, 1 / PIXEL)


def to_metres(uv: NDArray) -> NDArray[np.float64]:
    """(..., 2) pixels (u, v) -> (..., 2) metres (x, y)."""
    return uv[..., ::-1] * (PIXEL, -PIXEL) + (LEFT, TOP)


def check_colour(name: str) -> str:
    """Raises ConfigError, with the nearest name, for a colour that there is not."""
    if name not in COLOURS:
        raise ConfigError(unknown("colour", name, COLOURS))
    return name


def height_of(shape: str) -> float:
    """Thickness in metres of what is picked."""
    return BLOCK_HEIGHT if shape == "block" else LETTER_HEIGHT


@dataclass(frozen=True, eq=False)
class Scene:
    """One episode's start. A letter's place in `letters` is its slot; the bowl with index i has slot 3 + i."""

    letters: tuple[str, ...]  # (3,) shapes by slot, "block" for a block
    colours: tuple[str, ...]  # (6,) by slot, bowls included
    xy: NDArray[np.float64]  # (6, 2) centres in metres
    yaw: NDArray[np.float64]  # (3,) radians, counter-clockwise seen from above
    scale: float  # of the letters: 1 in the short horizon, 0.9 in the long one
    goal: tuple[int, int] | None  # (slot to pick, bowl 0-2); None: every letter into the bowl of its slot

    @property
    def position(self) -> NDArray[np.float64]:
        """(6, 2) centres in pixels."""
        return to_pixels(self.xy)


def sample_centres(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Six centres (x, y) in metres, each APART from the others: centres that are too near are drawn again, and after
    DRAWS in all the whole scene."""
    nearest, (left, right), (low, high) = APART**2, SPAWN_X, SPAWN_Y
    while True:
        draws = rng.random((DRAWS, 2))
        xs, ys = left + draws[:, 0] * (right - left), low + draws[:, 1] * (high - low)
        centres: list[tuple[float, float]] = []
        for x, y in zip(xs.tolist(), ys.tolist()):
            for cx, cy in centres:
                if (dx := x - cx) * dx + (dy := y - cy) * dy <= nearest:
                    break
            else:
                centres.append((x, y))
                if len(centres) == SLOTS:
                    return centres


def sample_scene(
    rng: np.random.Generator,
    *,
    horizon: Literal["short", "long"],
    letters: Sequence[str],
    colours: Sequence[str],
    scale: float,
) -> Scene:
    """A scene as in 1.2: three of the letters in random order, random places and yaws.

    Short horizon: each letter's colour is drawn by itself, and one letter and one bowl are the goal. Long horizon:
    slot i and bowl i have the same colour, yellow, green and blue; from more than three colours, three are drawn (as in
    the authors' video with other bowls).
    """
    centres = sample_centres(rng)
    order = rng.permutation(len(letters)).tolist()[:3]
    yaw = rng.random(3) * (2 * pi)
    if horizon == "short":
        *shades, letter, bowl = rng.random(5).tolist()  # in one call, each costs microseconds
        chosen = tuple(colours[int(x * len(colours))] for x in shades)
        bowls: tuple[str, ...] = BOWL_COLOURS
        goal: tuple[int, int] | None = int(3 * letter), int(3 * bowl)
    else:
        drawn = rng.permutation(len(colours)).tolist()[:3] if len(colours) > 3 else range(3)
        chosen = bowls = tuple(colours[i] for i in drawn)
        goal = None
    return Scene(tuple(letters[i] for i in order), chosen + bowls, np.array(centres), yaw, scale, goal)
