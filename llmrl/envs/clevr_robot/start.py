"""Where the balls are at the start of an episode (docs/papers/kalm.md)."""

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.clevr_robot.model import BALLS, RADIUS

X, Y = (-0.5, 0.5), (-0.3, 0.5)  # m; some of it lies inside the walls, which push a ball out in the first step
GAP = 0.1  # m, at least, between the surfaces of two balls
ALIGNED = 0.01  # m; two balls are not nearly, but unequally, level along x or y
TRIES = 10  # for a ball, before the scene is begun anew


def sample_xy(rng: np.random.Generator) -> NDArray[np.float64]:
    """(5, 2) m: ball by ball uniform in the field, drawn again where it would be too near or nearly level."""
    nearest = (2 * RADIUS + GAP) ** 2
    while True:
        placed: list[tuple[float, float]] = []
        for draws in rng.random((BALLS, TRIES, 2)).tolist():
            for a, b in draws:
                x, y = X[0] + a * (X[1] - X[0]), Y[0] + b * (Y[1] - Y[0])
                if all(
                    (x - u) ** 2 + (y - v) ** 2 >= nearest
                    and not 0 < abs(x - u) < ALIGNED
                    and not 0 < abs(y - v) < ALIGNED
                    for u, v in placed
                ):
                    placed.append((x, y))
                    break
            else:
                break
        if len(placed) == BALLS:
            return np.array(placed)
