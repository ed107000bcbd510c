"""What the agent sees of a world: detected positions and crops, which stay as they are until their object moves.

Source: docs/papers/explorllm.md. A crop is 28x28 of the half-resolution image around half the detected position: RGB,
and height x 20 with the camera's noise. The crop of a held object is the one around the pixel that it was picked at, as
the image was before the pick, so that its middle is the cup's.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from llmrl.envs.pick_place.detect import Detector
from llmrl.envs.pick_place.scene import BACKGROUND, FRAME, HALF, HOME_PIXEL, SLOTS, Scene
from llmrl.envs.pick_place.world import CROP, HEIGHT_LIMIT, World, measured

HEIGHT_SCALE = 20.0  # heights are observed in 5 cm
AWAY = 2 * FRAME  # pixels; a detected position is between this and minus this, should a thing roll away


def space(*, image: bool, goal: bool) -> Dict:
    """Observations with crops or with the whole image; the goal's two integers in the short horizon alone."""
    shape = (HALF, HALF) if image else (SLOTS, CROP, CROP)
    parts: dict[str, Any] = {} if image else {"position": Box(-AWAY / FRAME, AWAY / FRAME, (SLOTS, 2), np.float32)}
    parts["rgb"] = Box(0, 255, (*shape, 3), np.uint8)
    parts["height"] = Box(0, np.float16(HEIGHT_LIMIT * HEIGHT_SCALE), shape, np.float16)
    parts["in_hand"] = Box(0, 1, (1,), np.float32)
    if goal:
        parts["goal"] = Box(0, 2, (2,), np.float32)
    return Dict(parts)


class Observer:
    """Looks at one world with one detector; `position` are the six detected positions in whole pixels (u, v)."""

    def __init__(self, world: World, detector: Detector, *, image: bool) -> None:
        self._world, self._detector, self._image = world, detector, image
        self._rgb = np.empty((SLOTS, CROP, CROP, 3), np.uint8)
        self._height = np.empty((SLOTS, CROP, CROP), np.float16)

    def reset(self, scene: Scene, rng: np.random.Generator) -> None:
        self._rng = rng
        self._goal = None if scene.goal is None else np.array(scene.goal, np.float32)
        self.position = self._detector.start(self._world, scene, rng)
        self._refresh(dict(enumerate(self.position)))

    def before_pick(self, u: float, v: float) -> None:
        """To be called before each pick: keeps the crop around its pixel."""
        self._around_cup = self._crops([(u, v)]) if not self._image else None

    def after_step(self, picked: int) -> None:
        """To be called after each primitive. picked: the slot that it took into the hand, or -1."""
        found = self._detector.look(self._world, self._rng)
        for slot, (u, v) in found.items():
            self.position[slot] = (min(max(u, -AWAY), AWAY), min(max(v, -AWAY), AWAY))
        if picked >= 0:
            self.position[picked] = (int(HOME_PIXEL[0]), int(HOME_PIXEL[1]))
        if picked >= 0 and self._around_cup is not None:
            rgb, height = self._around_cup
            self._rgb[picked], self._height[picked] = rgb[0], height[0]
        if found or (self._image and picked >= 0):
            self._refresh(found)

    def observation(self) -> dict[str, NDArray]:
        """A copy of what is seen now, as `space` has it."""
        seen: dict[str, NDArray] = {"rgb": self._rgb.copy(), "height": self._height.copy()}
        seen["in_hand"] = np.array([self._world.held >= 0], np.float32)
        if not self._image:
            seen["position"] = np.array(self.position, np.float32)
            seen["position"] /= FRAME
        if self._goal is not None:
            seen["goal"] = self._goal.copy()
        return seen

    def _refresh(self, points: dict[int, tuple[int, int]]) -> None:
        if self._image:
            self._rgb, height = self._world.image()
            self._height = _stored(measured(height, self._rng))
        elif len(points) == SLOTS:
            self._rgb, self._height = self._crops(list(points.values()))
        else:
            for slot, rgb, height in zip(points, *self._crops(list(points.values()))):
                self._rgb[slot], self._height[slot] = rgb, height

    def _crops(self, points: list) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Crops around pixels of the 224 frame, with noise, and with padding outside of the image."""
        centres = [(int(u // 2), int(v // 2)) for u, v in points]
        rgb, height = self._world.crops(centres)
        height = measured(height, self._rng)
        edge = CROP // 2
        for i, (u, v) in enumerate(centres):
            if edge <= u <= HALF - edge and edge <= v <= HALF - edge:
                continue
            top, left = u - edge, v - edge
            outside = np.ones((CROP, CROP), bool)
            outside[max(-top, 0) : max(HALF - top, 0), max(-left, 0) : max(HALF - left, 0)] = False
            rgb[i][outside], height[i][outside] = BACKGROUND, 0.0
        return rgb, _stored(height)


def _stored(height: NDArray[np.float32]) -> NDArray[np.float16]:
    height *= HEIGHT_SCALE
    return height.astype(np.float16)
