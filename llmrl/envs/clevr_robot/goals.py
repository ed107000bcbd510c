"""Goals as vectors of integers, and when they are reached; everything takes any number of goals and scenes at once.

Source: docs/papers/kalm.md. Of a base goal, five flags name the ball to
move (1, src) and the ball beside which it shall be (2, dst), and a sixth number is the direction. An easy goal has one
ball to push and a direction. A hard goal has its kind in place 5, and from place 6 on blocks that are base goals.
In what follows xy are the balls' middles, (..., 5, 2) in m, and leading dimensions broadcast.
"""

from itertools import combinations, permutations
from math import radians, tan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.envs.clevr_robot.model import BALLS, RADIUS

Tier = Literal["base", "easy", "hard", "google"]
BEHIND, LEFT, FRONT, RIGHT, STILL = range(5)  # behind is +y and front -y: KALM's sign; Google's is the other one
UNIT = np.array([[0, 1], [-1, 0], [0, -1], [1, 0], [0, 0]])  # of a direction
TURN = np.stack([UNIT, UNIT[:, ::-1] * (-1, 1)], axis=1).astype(float)  # (5, 2, 2): the direction and its left
GOOGLE_UNIT = UNIT * (1, -1)
SIGN = np.array([0.0, 1.0, -1.0])  # of a flag: v = xy(src) - xy(dst)

NEAR = RADIUS * 3  # m: src is nearer to dst than this
ZERO = 1e-3  # m, a component of v below this counts as 0
HARD = 36  # integers in a hard goal
TWO, THREE, ORDER, SORT = range(4)  # its kinds
KIND_SHARES = (0.4, 0.4, 0.1, 0.1)  # of drawn hard goals: 160 combinations, 20 lines, 20 circles (inferred)
LINE_SLOPE = tan(radians(30))
GREEN, GATHERED = 2, RADIUS * 2.5  # m: the other four are nearer to the green ball than this
PUSHED_TO = np.zeros((5, 8), bool)  # (direction of an easy goal, direction of an action): in the same half-plane?
for _direction, _pushes in ((BEHIND, (1, 4, 5)), (LEFT, (2, 5, 7)), (FRONT, (3, 6, 7)), (RIGHT, (0, 4, 6))):
    PUSHED_TO[_direction, list(_pushes)] = True
MOVED, UNMOVED = 0.15, 0.05  # m, the easy tier's judge by states
RELATED_COS, RELATED_WITHIN = 0.6, 0.7  # Google's relations: cosine of the angle, distance in m


def base_goal(src: int, dst: int, direction: int) -> NDArray[np.int64]:
    """(6,): ball src shall be `direction` of ball dst."""
    goal = np.zeros(6, np.int64)
    goal[[src, dst, 5]] = 1, 2, direction
    return goal


def easy_goal(ball: int, direction: int) -> NDArray[np.int64]:
    """(6,): push the ball to that side."""
    goal = np.zeros(6, np.int64)
    goal[[ball, 5]] = 1, direction
    return goal


def hard_goal(kind: int, *blocks: NDArray) -> NDArray[np.int64]:
    """(36,): two or three base goals at once, or none for ORDER and SORT."""
    goal = np.zeros(HARD, np.int64)
    goal[5] = kind
    if blocks:
        goal[6 : 6 + 6 * len(blocks)] = np.concatenate(blocks)
    return goal


BASE = np.array([base_goal(*pair, d) for pair in permutations(range(BALLS), 2) for d in range(4)])  # (80, 6)
EASY = np.array([easy_goal(ball, d) for ball in range(BALLS) for d in range(4)])  # (20, 6)


def draw(tier: Tier, rng: np.random.Generator, xy: NDArray | None = None) -> NDArray[np.int64]:
    """A goal of the tier, every one equally likely. xy (5, 2): where Google's goals are not to hold already."""
    if tier == "easy":
        return EASY[rng.integers(len(EASY))]
    if tier == "hard":
        return _draw_hard(rng)
    goals = BASE if tier == "base" or xy is None else BASE[~google(BASE, xy)]
    return goals[rng.integers(len(goals))]


def _draw_hard(rng: np.random.Generator) -> NDArray[np.int64]:
    """Conditions on different pairs of balls, no three of which close a circle: none contradicts the others."""
    kind = int(rng.choice(4, p=KIND_SHARES))
    if kind in (ORDER, SORT):
        return hard_goal(kind)
    pairs = np.array(list(combinations(range(BALLS), 2)))
    while True:
        chosen = rng.permutation(rng.choice(pairs, kind + 2, replace=False), axis=1)
        if kind == TWO or len(set(chosen.ravel().tolist())) > 3:
            break
    return hard_goal(kind, *(base_goal(src, dst, int(rng.integers(4))) for src, dst in chosen.tolist()))


def tier_of(goal: NDArray) -> Literal["base", "easy", "hard"]:
    """What kind of goal (k,) this is; base goals are Google's too. Raises ConfigError for what is none."""
    flags = sorted(goal[:BALLS].tolist())
    if goal.shape == (6,) and flags == [0, 0, 0, 1, 2] and 0 <= goal[5] < STILL:
        return "base"
    if goal.shape == (6,) and flags == [0, 0, 0, 0, 1] and 0 <= goal[5] <= STILL:
        return "easy"
    if goal.shape == (HARD,) and flags == [0] * BALLS and 0 <= goal[5] <= SORT:
        parts = {TWO: 2, THREE: 3}.get(int(goal[5]), 0)
        blocks = goal[6:].reshape(-1, 6)
        if all(tier_of(block) == "base" for block in blocks[:parts]) and not blocks[parts:].any():
            return "hard"
    raise ConfigError(
        f"{goal.tolist()} is no goal: see llmrl/envs/clevr_robot/goals.py for base_goal, easy_goal and hard_goal"
    )


# --- when they are reached ------------------------------------------------------------------------------------------


def offset(goals: NDArray, xy: NDArray) -> NDArray[np.float64]:
    """v = xy(src) - xy(dst) of base goals (..., 6): (..., 2) m."""
    return (SIGN[goals[..., None, :BALLS]] @ xy)[..., 0, :]


def base(goals: NDArray, xy: NDArray, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """(..., 6) -> (...): src is on the wanted side of dst, and near."""
    return beside(goals[..., 5], offset(goals, xy), tolerance)


def beside(direction: NDArray, v: NDArray, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """(...), (..., 2) -> (...): v is in [-45, 45) degrees of the direction, and shorter than NEAR + tolerance.

    The border is compared without an angle, and so without rounding: v has p along the direction and q to its left,
    and lies in the sector if -p <= q < p. Two balls in the very same place are in no direction of each other.
    """
    v = np.where(np.abs(v) < ZERO, 0.0, v)
    turned = (TURN[direction] @ v[..., None])[..., 0]
    p, q = turned[..., 0], turned[..., 1]
    return (-p <= q) & (q < p) & (np.hypot(v[..., 0], v[..., 1]) < NEAR + tolerance)


def easy_by_action(goals: NDArray, actions: NDArray) -> NDArray[np.bool_]:
    """(..., 6), (...) -> (...): the right ball was pushed into the right half-plane (step_level_a)."""
    ball, push = np.divmod(actions, 8)
    return (goals[..., :BALLS].argmax(-1) == ball) & PUSHED_TO[goals[..., 5], push]


def easy_by_state(goals: NDArray, before: NDArray, after: NDArray) -> NDArray[np.bool_]:
    """(..., 6), xy, xy -> (...): some ball, whichever it is, moved MOVED that way (step_level_s); STILL: none moved
    UNMOVED along x or y."""
    change = after - before
    moved = ((change * UNIT[goals[..., 5]][..., None, :]).sum(-1) >= MOVED).any(-1)
    return np.where(goals[..., 5] == STILL, np.abs(change).max((-2, -1)) < UNMOVED, moved)


def hard_parts(goals: NDArray, xy: NDArray, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """(..., 36) -> (..., 4): which conditions hold. A goal of fewer than four has True in the other places.

    TWO and THREE: base goals. ORDER: from each of red, blue, green, purple, cyan to the next within 30 degrees of +x.
    SORT: each of the other four balls near the green one.
    """
    kind = goals[..., 5, None]
    blocks = goals[..., 6:24].reshape(*goals.shape[:-1], 3, 6)
    pairs = base(blocks, xy[..., None, :, :], tolerance)
    pairs = np.concatenate([pairs, np.ones_like(pairs[..., :1])], axis=-1)
    pairs[..., 2] |= goals[..., 5] == TWO
    step = xy[..., 1:, :] - xy[..., :-1, :]
    line = (step[..., 0] > 0) & (np.abs(step[..., 1]) <= LINE_SLOPE * step[..., 0])
    away = np.delete(xy, GREEN, axis=-2) - xy[..., GREEN, None, :]
    circle = np.hypot(away[..., 0], away[..., 1]) < GATHERED
    return np.where(kind == ORDER, line, np.where(kind == SORT, circle, pairs))


def google(goals: NDArray, xy: NDArray) -> NDArray[np.bool_]:
    """(..., 6) -> (...): Google's relations for the same 80 triples. The sectors are wider and overlap, and front is
    +y there."""
    v = offset(goals, xy)
    distance = np.hypot(v[..., 0], v[..., 1])
    along = (v * GOOGLE_UNIT[goals[..., 5]]).sum(-1)
    return (along > RELATED_COS * distance) & (distance < RELATED_WITHIN)
