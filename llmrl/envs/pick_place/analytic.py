"""The world computed instead of simulated: masks on a table, no physics and no rendering (docs/papers/explorllm.md).

What is under the middle of a dropped object carries it, so an object whose middle is beside the bowl lies on the table.
Nothing is pushed, tilts or rolls. Images are drawn as labels (0: table, 1 + slot) from low to high, then coloured.
"""

from collections.abc import Callable, Sequence
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.pick_place import letters
from llmrl.envs.pick_place.letters import BOWL, FINE, PIXEL
from llmrl.envs.pick_place.scene import (
    BACKGROUND,
    BOWL_HEIGHT,
    COLOURS,
    FRAME,
    HALF,
    HOME,
    HOME_PIXEL,
    SLOTS,
    Scene,
    height_of,
)
from llmrl.envs.pick_place.world import CROP, SEAL_WINDOW, seals

MARGIN, SAMPLES = 64, 2  # render(): room for the hand, and samples of a mask per pixel


class AnalyticWorld:
    """A `World`; world.py says what its attributes and methods are."""

    def __init__(self, drop_scatter_mm: float) -> None:
        import cv2

        self._colour_map: Callable[..., Any] = cv2.applyColorMap
        self._scatter = drop_scatter_mm / 1000 / PIXEL
        self.frames: list[NDArray[np.uint8]] = []  # there are no motions

    def reset(self, scene: Scene, rng: np.random.Generator) -> None:
        self._rng, self.held, self._drops = rng, -1, 0
        self.position, self.yaw = scene.position, scene.yaw
        self._thick = [*map(height_of, scene.letters), *(BOWL_HEIGHT,) * 3]
        self.z = np.array(self._thick) / 2
        turned = zip(scene.letters, scene.yaw.tolist())
        self._shapes = [(name, scene.scale, letters.yaw_step(yaw)) for name, yaw in turned] + [(BOWL, 1.0, 0)] * 3
        self._extents = [letters.extent(*shape) for shape in self._shapes]
        self._palette = np.zeros((256, 1, 3), np.uint8)
        self._palette[: SLOTS + 1, 0] = [BACKGROUND, *(COLOURS[name] for name in scene.colours)]
        self._dropped = [0] * SLOTS  # when each was dropped: what came later lies above
        self._moved()

    def pick(self, u: float, v: float) -> int:
        if self.held >= 0:
            self._drop(*HOME_PIXEL)
        labels = np.zeros((SEAL_WINDOW, SEAL_WINDOW), np.uint8)
        self._draw(labels, (floor(u) - 4, floor(v) - 4), FINE)
        near = labels[2:6, 2:6].ravel().tolist()  # what the cup touches: within two pixels
        touched = [slot for slot in self._order if slot < 3 and slot + 1 in near]
        if touched and seals(self._tops[labels], self._rng):
            self.held = touched[-1]
            self._offset = self.position[self.held] - (u, v)
            self.position[self.held] = HOME_PIXEL + self._offset
            self.z[self.held] = HOME[2]
            self._moved()
        return self.held

    def place(self, u: float, v: float) -> None:
        if self.held >= 0:
            self._drop(u, v)

    def crops(self, centres: Sequence[tuple[int, int]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        labels = np.zeros((len(centres), CROP, CROP), np.uint8)
        for canvas, (u, v) in zip(labels, centres):
            self._draw(canvas, (u - CROP // 2, v - CROP // 2), 2 * FINE)
        return self._coloured(labels)

    def image(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        labels = np.zeros((HALF, HALF), np.uint8)
        self._draw(labels, (0, 0), 2 * FINE)
        return self._coloured(labels)

    def render(self) -> NDArray[np.uint8]:
        """(576, 576, 3): the table from above, with room around it for what hangs from the hand, whose cup is white."""
        side = FRAME * FINE // SAMPLES + 2 * MARGIN
        labels = np.zeros((side, side), np.uint8)
        self._draw(labels, (-MARGIN, -MARGIN), SAMPLES, [*self._order, *([self.held] if self.held >= 0 else [])])
        image, _ = self._coloured(labels)
        u, v = (int(MARGIN + x * FINE / SAMPLES) for x in HOME_PIXEL)
        image[u - 4 : u + 4, v - 4 : v + 4] = 255
        return image

    def _drop(self, u: float, v: float) -> None:
        """The held object falls from a hand above (u, v) and rests on what is under its middle."""
        slot, self.held = self.held, -1
        self.position[slot] = (u, v) + self._offset
        if self._scatter:
            self.position[slot] += self._scatter * self._rng.standard_normal(2)
        label = np.zeros((1, 1), np.uint8)
        middle = self.position[slot].tolist()
        self._draw(label, (floor(middle[0]), floor(middle[1])), FINE)
        self.z[slot] = float(self._tops[label[0, 0]]) + self._thick[slot] / 2
        self._drops += 1
        self._dropped[slot] = self._drops
        self._moved()

    def _moved(self) -> None:
        """What follows from where things are: their tops in metres by label, and the order from low to high."""
        self._points = self.position.tolist()
        tops = [z + thick / 2 for z, thick in zip(self.z.tolist(), self._thick)]
        self._tops = np.array([0.0, *tops], np.float32)
        self._order = sorted((s for s in range(SLOTS) if s != self.held), key=lambda s: (tops[s], self._dropped[s]))

    def _draw(self, canvas: NDArray, corner: tuple[int, int], step: int, order: list[int] | None = None) -> None:
        """Labels of the window whose first pixel is `corner`; step: samples of a mask per pixel (letters.overlap)."""
        height, width = canvas.shape
        scale = step / FINE  # pixels of the frame per pixel of the window
        middle_u, middle_v = (corner[0] + height / 2) * scale, (corner[1] + width / 2) * scale
        half_u, half_v = height * scale / 2, width * scale / 2
        for slot in self._order if order is None else order:
            u, v = self._points[slot]
            reach_u, reach_v = self._extents[slot]
            if abs(u - middle_u) < half_u + reach_u and abs(v - middle_v) < half_v + reach_v:
                found = letters.overlap(letters.phases(*self._shapes[slot], step), (u, v), corner, canvas.shape)
                if found is not None:
                    rows, columns, shape = found
                    np.putmask(canvas[rows, columns], shape, slot + 1)

    def _coloured(self, labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGB and height of labels. cv2's colour map does what palette[labels] does, ten times as fast."""
        rgb = self._colour_map(labels.reshape(-1, labels.shape[-1]), self._palette)
        return rgb.reshape(*labels.shape, 3), self._tops.take(labels, mode="clip")
