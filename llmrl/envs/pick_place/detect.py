"""Where things are seen: in training true positions with noise that stays, or a detector that reads the image.

Source: docs/papers/explorllm.md. Both give whole pixels (u, v) of the 224 frame, and a new position only for what has
moved by more than MOVED pixels since it was last seen.
"""

from functools import cache
from math import dist, hypot
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.pick_place import letters
from llmrl.envs.pick_place.letters import FINE, YAWS
from llmrl.envs.pick_place.scene import COLOURS, SLOTS, Scene
from llmrl.envs.pick_place.world import World, measured

MOVED = 5.0  # pixels
Point = tuple[int, int]


class Detector(Protocol):
    def start(self, world: World, scene: Scene, rng: np.random.Generator) -> list[Point]:
        """The positions of all six objects in a new scene."""

    def look(self, world: World, rng: np.random.Generator) -> dict[int, Point]:
        """The new positions of what has moved, by slot. What is held is not seen, and is new when it is back."""


class NoisyTruth:
    """True positions with normal noise, which stays as it is until the object moves."""

    def __init__(self, noise_px: float) -> None:
        self._noise = noise_px

    def start(self, world: World, scene: Scene, rng: np.random.Generator) -> list[Point]:
        positions: list[list[float]] = world.position.tolist()
        self._seen: list[list[float] | None] = [*positions]
        found = []
        for (u, v), (du, dv) in zip(positions, (self._noise * rng.standard_normal((SLOTS, 2))).tolist()):
            # the authors' first draw: a noise longer than two sigma is shortened to 1.92 sigma (5 and 4.8 pixels)
            length = hypot(du, dv)
            factor = 1.92 * self._noise / length if length > 2 * self._noise else 1.0
            found.append((int(u + factor * du), int(v + factor * dv)))
        return found

    def look(self, world: World, rng: np.random.Generator) -> dict[int, Point]:
        found: dict[int, Point] = {}
        for slot, now in enumerate(world.position.tolist()):
            before = self._seen[slot]
            if slot == world.held:
                self._seen[slot] = None
            elif before is None or dist(before, now) > MOVED:
                self._seen[slot] = now
                du, dv = (self._noise * rng.standard_normal(2)).tolist()
                found[slot] = (int(now[0] + du), int(now[1] + dv))
        return found


# --- from pixels alone ----------------------------------------------------------------------------------------------

LOW, ON_BOWL = 0.010, 0.045  # m: below is the table; above is a letter on a bowl
COLOUR_DISTANCE = 40.0  # in RGB; what is farther from a colour does not have it
MIN_AREA = 12  # pixels of the half-resolution image, of a letter or block
BOWL_AREA = 150  # of a bowl, a third of it


class ColourSegments:
    """Colour threshold and connected components on the half-resolution image; a component's letter is the one that
    covers it best, over all yaws. The bowls, which never move, are seen once; a hidden letter stays where it was."""

    def start(self, world: World, scene: Scene, rng: np.random.Generator) -> list[Point]:
        self._scene = scene
        self._last: list[Point | None] = [None] * SLOTS
        rgb, height = world.image()
        height = measured(height, rng)
        for slot in range(3, SLOTS):
            found = self._components(rgb, height, scene.colours[slot], BOWL_AREA)
            # of two things of one colour, the bowl is the one that fills its box like a disc, and is higher
            best = max(found, key=lambda part: np.median(height[part]) + 1e-5 * part.sum(), default=None)
            self._last[slot] = (112, 112) if best is None else _middle(best)
        found_letters = self._letters(rgb, height, range(3))
        for slot in range(3):
            self._last[slot] = found_letters.get(slot, (112, 112))
        return [point for point in self._last if point is not None]

    def look(self, world: World, rng: np.random.Generator) -> dict[int, Point]:
        if world.held >= 0:
            self._last[world.held] = None
        rgb, height = world.image()
        seen = self._letters(rgb, measured(height, rng), [slot for slot in range(3) if slot != world.held])
        moved = {s: p for s, p in seen.items() if (last := self._last[s]) is None or dist(last, p) > MOVED}
        for slot, point in moved.items():
            self._last[slot] = point
        return moved

    def _letters(self, rgb: NDArray, height: NDArray, slots: range | list[int]) -> dict[int, Point]:
        """Every slot's best component, no component twice: the best pair first."""
        pairs = []
        for slot in slots:
            name, colour = self._scene.letters[slot], self._scene.colours[slot]
            for part in self._components(rgb, height, colour, MIN_AREA):
                score, point = _fit(part, name, self._scene.scale)
                pairs.append((score, slot, point))
        found: dict[int, Point] = {}
        for _, slot, point in sorted(pairs, reverse=True):
            if slot not in found and all(dist(point, other) > MOVED for other in found.values()):
                found[slot] = point
        return found

    def _components(self, rgb: NDArray, height: NDArray, colour: str, min_area: int) -> list[NDArray[np.bool_]]:
        """Masks (112, 112) of what has this colour: one for each thing that is connected and equally high."""
        import cv2

        near = ((rgb - np.array(COLOURS[colour], np.float32)) ** 2).sum(-1) < COLOUR_DISTANCE**2
        blurred = cv2.medianBlur(height, 3)
        found = []
        for layer in (near & (blurred <= ON_BOWL), near & (blurred > ON_BOWL)):
            count, labels = cv2.connectedComponents(layer.astype(np.uint8), connectivity=4)
            parts = [labels == i for i in range(1, count)]
            found += [part for part in parts if part.sum() >= min_area]
        return found


def _middle(part: NDArray[np.bool_]) -> Point:
    """The middle of a component's box, in pixels of the 224 frame."""
    (rows, columns) = np.nonzero(part)
    return int(rows.min() + rows.max() + 1), int(columns.min() + columns.max() + 1)


def _fit(part: NDArray[np.bool_], name: str, scale: float) -> tuple[float, Point]:
    """How well a letter covers a component (intersection over union at the best yaw of a grid of 4 degrees, with equal
    centroids), and where the letter's origin then is, in pixels of the 224 frame."""
    rows, columns = np.nonzero(part)
    centroid = (2 * (rows.mean() + 0.5), 2 * (columns.mean() + 0.5))
    best: tuple[float, Point] = (-1.0, (0, 0))
    for step in range(0, YAWS, 2):
        own = _centroid(name, scale, step)
        origin = (centroid[0] - own[0], centroid[1] - own[1])
        found = letters.overlap(letters.phases(name, scale, step, 2 * FINE), origin, (0, 0), part.shape)
        if found is None:
            continue
        own_rows, own_columns, samples = found
        both = np.count_nonzero(part[own_rows, own_columns] & samples)
        score = both / (len(rows) + np.count_nonzero(samples) - both)
        if score > best[0]:
            best = (score, (int(origin[0]), int(origin[1])))
    return best


@cache
def _centroid(name: str, scale: float, step: int) -> tuple[float, float]:
    """Of a letter's mask, from its origin, in pixels of the 224 frame."""
    rows, columns = np.nonzero(letters.mask(name, scale, step))
    return float(rows.mean() + 0.5 - letters.SIZE / 2) / FINE, float(columns.mean() + 0.5 - letters.SIZE / 2) / FINE
