"""The policy that knows the truth: it picks the goal's letter well inside its shape and puts its middle on the bowl's.

It shows what is possible (1.0 in two steps, 0.1 in six) and how fast the environment is.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.pick_place import letters
from llmrl.envs.pick_place.actions import Actions, encode
from llmrl.envs.pick_place.letters import FINE
from llmrl.envs.pick_place.scene import FRAME, HOME_PIXEL
from llmrl.envs.pick_place.task import in_bowls

DEPTH = 4.5  # pixels from a letter's rim; the seal holds safely, and deeper is no better


@cache
def grasp(name: str, scale: float, step: int) -> tuple[float, float]:
    """From a letter's origin to the pixel (u, v) to pick: as far from the rim as DEPTH, then as near as possible."""
    import cv2

    inside = letters.mask(name, scale, step).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) / FINE
    row, column = np.ogrid[: letters.SIZE, : letters.SIZE]
    away = np.maximum(abs(row + 0.5 - letters.SIZE / 2), abs(column + 0.5 - letters.SIZE / 2)) / FINE
    best = np.argmax(np.minimum(depth, DEPTH) - 0.1 * away)
    u, v = np.unravel_index(best, depth.shape)
    return (float(u) + 0.5 - letters.SIZE / 2) / FINE, (float(v) + 0.5 - letters.SIZE / 2) / FINE


def act(
    truth: dict[str, Any],
    observed: NDArray,
    *,
    actions: Actions = "residual",
    reach: float = 14.0,
) -> NDArray[np.float32]:
    """The action for `info["truth"]` and the observation's "position" (6, 2); actions and reach: as the
    environment's options `actions` and `residual_px`."""
    position, held, goal = truth["position"], truth["held"], truth["goal"]
    points = position.tolist()
    if held >= 0 and (goal is None or held == goal[0]):
        bowl = 3 + (held if goal is None else goal[1])
        target = tuple(points[bowl][axis] - (points[held][axis] - HOME_PIXEL[axis]) for axis in (0, 1))
        return encode(actions, True, bowl, target, observed * FRAME, reach)
    slot = goal[0] if goal is not None else in_bowls(points, truth["z"].tolist()).index(False)
    du, dv = grasp(truth["letters"][slot], truth["scale"], letters.yaw_step(float(truth["yaw"][slot])))
    return encode(actions, False, slot, (points[slot][0] + du, points[slot][1] + dv), observed * FRAME, reach)
