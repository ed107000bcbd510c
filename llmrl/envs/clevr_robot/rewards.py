"""What a step earns and whether it reaches the goal, in the table and in imagined rollouts.

Source: docs/papers/kalm.md; verified there on the authors' data. For n scenes at once: goals (n, k), actions (n,), xy
before and after the step (n, 5, 2) in m.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.clevr_robot import goals as g

SUCCESS = 100.0
SCALE = 10.0  # per m of progress, and per condition of a hard goal
BESIDE = 0.195  # m: where the real form wants src, beside dst; the imagined one wants it as near as can be
Form = Literal["real", "imaginary"]


def judge(
    tier: g.Tier,
    goals: NDArray,
    actions: NDArray,
    before: NDArray,
    after: NDArray,
    *,
    easy_judge: Literal["action", "state"],
    tolerance: float,
    form: Form = "real",
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(rewards (n,), successes (n,)) of one step; all goals are of one tier."""
    if tier == "easy":
        by_action = easy_judge == "action"
        success = g.easy_by_action(goals, actions) if by_action else g.easy_by_state(goals, before, after)
        return success.astype(float), success
    if tier == "google":
        success = g.google(goals, after)
        return success.astype(float), success
    if tier == "hard":
        held, holds = g.hard_parts(goals, np.array([before, after]), tolerance)
        success = holds.all(-1)
        progress = holds.sum(-1) - held.sum(-1)
    else:
        v = g.offset(goals, np.array([before, after]))
        success = g.beside(goals[:, 5], v[1], tolerance)
        far, near = distance(goals[:, 5], v, form)
        progress = far - near
    return np.where(success, SUCCESS, SCALE * progress), success


def distance(direction: NDArray, v: NDArray, form: Form) -> NDArray[np.float64]:
    """Of a ball at v (..., 2) from dst to where a base goal wants it: (...) m."""
    if form == "real":
        v = v - BESIDE * g.UNIT[direction]
    return np.hypot(v[..., 0], v[..., 1])
