"""Three ways to say a primitive with a Box (docs/papers/explorllm.md), and back from a pixel to an action."""

from typing import Literal

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from llmrl.envs.pick_place.scene import FRAME, SLOTS

Actions = Literal["residual", "index", "pixel"]
LAST = FRAME - 1.0


def space(kind: Actions) -> Box:
    """residual: [p, six scores, du, dv]; index: [p, index, du, dv]; pixel: [p, u, v]. p > 0.5 places, else it picks."""
    low, high = {
        "residual": ([0.0] * 7 + [-1.0] * 2, [1.0] * 9),
        "index": ([0.0] * 2 + [-1.0] * 2, [1.0] * 4),
        "pixel": ([0.0] * 3, [1.0] * 3),
    }[kind]
    return Box(np.array(low, np.float32), np.array(high, np.float32))


def decode(kind: Actions, action: NDArray, observed: list[tuple[int, int]], reach: float) -> tuple[float, float, float]:
    """(p, u, v): the primitive value and the target in pixels, clipped to the frame. observed: the six detected
    positions; reach: pixels of a residual of 1."""
    values = action.tolist()
    if kind == "pixel":
        u, v = values[1] * FRAME, values[2] * FRAME
    else:
        scores = values[1:7]
        slot = scores.index(max(scores)) if kind == "residual" else min(int(values[1] * SLOTS), SLOTS - 1)
        u, v = (x + reach * d for x, d in zip(observed[slot], values[-2:]))
    return values[0], min(max(u, 0.0), LAST), min(max(v, 0.0), LAST)


def encode(
    kind: Actions, place: bool, slot: int, target: tuple[float, float], observed: NDArray, reach: float
) -> NDArray[np.float32]:
    """The action that reaches for `target` (u, v), around the object in `slot` as far as its residual goes. observed:
    (6, 2) detected positions in pixels."""
    p = 1.0 if place else 0.0
    if kind == "pixel":
        return np.array([p, target[0] / FRAME, target[1] / FRAME], np.float32)
    u, v = observed[slot]
    residual = [min(max(d / reach, -1.0), 1.0) for d in (target[0] - u, target[1] - v)]
    if kind == "index":
        return np.array([p, (slot + 0.5) / SLOTS, *residual], np.float32)
    return np.array([p, *(1.0 if i == slot else 0.0 for i in range(SLOTS)), *residual], np.float32)
