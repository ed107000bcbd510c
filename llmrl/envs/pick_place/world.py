"""What a world is, whether simulated or computed, and the rule by which suction holds, which both have in common."""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.pick_place.scene import Scene

CROP = 28  # pixels of a crop's side, in the half-resolution image: 150 mm
HEIGHT_NOISE = 0.003  # m, standard deviation of a height that the camera measures
HEIGHT_LIMIT = 0.15  # m, the camera sees nothing above
SEAL_HEIGHT = 0.010  # m, what is lower does not count for the seal
SEAL_SHARE = 0.75  # more of the window than this must be higher
SEAL_WINDOW = 8  # pixels: the 6x6 of the rule and a border of one for the blur


class World(Protocol):
    """A table with three pickable objects (slots 0-2) and three bowls (3-5). Positions are true, in pixels (u, v) of
    the 224 frame; heights have no noise, `measured` adds it."""

    position: NDArray[np.float64]  # (6, 2) centres; of a held object below the hand, which waits at HOME_PIXEL
    yaw: NDArray[np.float64]  # (3,) radians
    z: NDArray[np.float64]  # (6,) m, the middle of each object's thickness
    held: int  # slot, -1: nothing
    frames: list[NDArray[np.uint8]]  # renderings of the motions since the list was last emptied, of a world that films

    def reset(self, scene: Scene, rng: np.random.Generator) -> None:
        """Sets the scene up with an empty hand; all noise of the episode is drawn from `rng`."""

    def pick(self, u: float, v: float) -> int:
        """Drops what is held, then lowers the suction cup at a pixel, and goes home. Returns the slot held, or -1."""

    def place(self, u: float, v: float) -> None:
        """Drops what is held with the suction cup at a pixel, and goes home. Does nothing with an empty hand."""

    def crops(self, centres: Sequence[tuple[int, int]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB (k, 28, 28, 3) and height in metres (k, 28, 28) around k pixels (u, v) of the half-resolution image:
        rows u - 14 to u + 13. The caller overwrites what lies outside of the image. What is held is not in them."""

    def image(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The whole half-resolution image: RGB (112, 112, 3), height (112, 112) in metres."""

    def render(self) -> NDArray[np.uint8]:
        """A rendering for people, RGB."""


@cache
def _noise() -> NDArray[np.float32]:
    """A quarter of a million draws of the camera's noise, in metres, the same in every process."""
    return HEIGHT_NOISE * np.random.default_rng(0).standard_normal(2**18, dtype=np.float32)


def measured(height: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Heights as the depth camera gives them: with noise, and nothing below the table or above HEIGHT_LIMIT (m).

    A window's noise is a stretch of a long table that begins where `rng` says: two windows have the same one with a
    chance of 1 in 260,000, and a tenth of the environment's time is saved.
    """
    table = _noise()
    start = int(rng.random() * (len(table) - height.size))
    noisy = table[start : start + height.size].reshape(height.shape) + height
    np.maximum(noisy, 0.0, out=noisy)
    return np.minimum(noisy, HEIGHT_LIMIT, out=noisy)


def seals(height: NDArray[np.float32], rng: np.random.Generator) -> bool:
    """Whether suction holds: after a 3x3 Gaussian blur, more than 75 % of the 6x6 pixels around the cup, or
    of their inner 4x4, are above 10 mm. height: (8, 8) in metres, rows floor(u) - 4 to floor(u) + 3, without noise."""
    seen = measured(height, rng)
    rows = seen[:-2] + 2 * seen[1:-1] + seen[2:]
    high = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] > 16 * SEAL_HEIGHT
    return bool(np.count_nonzero(high) > SEAL_SHARE * 36 or np.count_nonzero(high[1:-1, 1:-1]) > SEAL_SHARE * 16)
