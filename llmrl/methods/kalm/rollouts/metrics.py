"""How good imagined rollouts are: do they reach their goals, and could they have happened (kalm.md, Tables 1 and 4,
Fig. 12)?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.envs.clevr_robot import goals as g
from llmrl.envs.clevr_robot.model import BALLS, RADIUS, Table, at_rest, xy_of
from llmrl.envs.clevr_robot.rollouts import Rollouts

# A ball's middle at rest, m. The walls are soft: 0.01 m more is where none of our real states lies.
BOX_X, BOX_Y, SOFT = (-0.47, 0.47), (-0.17, 0.57), 0.01
AFTER = (1, 5, 10)  # steps of a rollout, after which it is looked at
MAX_MOVE = 0.449  # m, the farthest that a ball moved in one of the authors' real steps
APART = 2 * RADIUS  # m; balls can ride up over each other, so a few real states have less


def measured(
    rollouts: Rollouts, tier: Any, *, rng: np.random.Generator, steps: int = 2000, threads: int = 1
) -> dict[str, float]:
    """Shares, unless a name says otherwise. `steps`: transitions at the most that are played in the simulator."""
    before, actions, after, goals = transitions(rollouts)
    moved = np.linalg.norm(after - before, axis=-1)  # (k, 5) m
    outside = outside_workbench(after)
    facts = {
        "rollouts": len(rollouts),
        "transitions": len(actions),
        "match": float(matches(rollouts, tier).mean()),
        "length_mean": float(rollouts.lengths.mean()),
        "outside_workbench": float(outside.any(1).mean()),
        "outside_workbench_balls": float(outside.mean()),
        "beyond_dynamics": float((moved > MAX_MOVE).any(1).mean()),
        "overlap": float(overlapping(after).mean()),
        "acted_ball_moves_most": float((moved.argmax(1) == actions // 8).mean()),
    }
    if tier == "easy":  # Fig. 12: the first step, judged by what was pushed, and by what moved
        facts["action_match"] = float(g.easy_by_action(goals, actions).mean())
        facts["state_match"] = float(g.easy_by_state(goals, before, after).mean())
    some = rng.permutation(len(actions))[:steps]
    facts |= drift(rollouts.take(np.sort(rng.permutation(len(rollouts))[: steps // 10])), threads)
    return facts | real_step(before[some], actions[some], after[some], goals[some], tier, threads)


def drift(rollouts: Rollouts, threads: int = 1) -> dict[str, float]:
    """Shares of rollouts in which a ball lies outside after so many steps, of those that last so long: as imagined, and
    as the same actions leave them in the simulator. A number of steps that none lasts is left out."""
    found: dict[str, float] = {}
    imagined = rollouts.observations.reshape(*rollouts.observations.shape[:2], BALLS, 2).astype(float)
    table, real = Table(threads), at_rest(imagined[:, 0])
    for step in range(1, max(AFTER) + 1):
        on = rollouts.lengths >= step
        if not on.any():
            break
        real[on] = table.push(real[on], rollouts.actions[on, step - 1].astype(np.int64))
        if step in AFTER:
            found[f"outside_after_{step}"] = float(outside_workbench(imagined[on, step]).any(1).mean())
            found[f"outside_after_{step}_simulated"] = float(outside_workbench(xy_of(real[on])).any(1).mean())
    return found


def transitions(rollouts: Rollouts) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """All steps in a row: xy before (k, 5, 2) m, actions (k,), xy after, goals (k, ·)."""
    there = np.arange(rollouts.actions.shape[1]) < rollouts.lengths[:, None]
    xy = rollouts.observations.reshape(*rollouts.observations.shape[:2], BALLS, 2).astype(float)
    goals = np.repeat(rollouts.goals, rollouts.lengths, axis=0)
    return xy[:, :-1][there], rollouts.actions[there], xy[:, 1:][there], goals


def matches(rollouts: Rollouts, tier: Any) -> NDArray[np.bool_]:
    """(n,): the goal is reached in the end. An easy rollout always ends, so its reward decides."""
    return rollouts.rewards[:, 0] > 0 if tier == "easy" else np.any(rollouts.terminals, axis=1)


def outside_workbench(xy: NDArray) -> NDArray[np.bool_]:
    """(..., 5, 2) m -> (..., 5): a ball lies where the walls let none rest."""
    x, y = xy[..., 0], xy[..., 1]
    return (x < BOX_X[0] - SOFT) | (x > BOX_X[1] + SOFT) | (y < BOX_Y[0] - SOFT) | (y > BOX_Y[1] + SOFT)


def overlapping(xy: NDArray) -> NDArray[np.bool_]:
    """(..., 5, 2) m -> (...): two balls are nearer than two radii."""
    a, b = np.triu_indices(BALLS, 1)
    return (np.linalg.norm(xy[..., a, :] - xy[..., b, :], axis=-1) < APART).any(-1)


def real_step(
    before: NDArray, actions: NDArray, after: NDArray, goals: NDArray, tier: Any, threads: int
) -> dict[str, float]:
    """The same pushes of the same, resting balls in the simulator: how far its balls end from the imagined ones."""
    real = xy_of(Table(threads).push(at_rest(before), actions.astype(np.int64)))
    error = np.linalg.norm(real - after, axis=-1)  # (k, 5) m
    acted = error[np.arange(len(error)), actions // 8]
    facts = {"real_step_error_mean_m": error.mean(), "real_step_acted_error_median_m": np.median(acted)}
    if tier == "easy":  # would the imagined action have moved a ball that way?
        facts["state_match_of_action_in_real_step"] = g.easy_by_state(goals, before, real).mean()
    return {key: float(value) for key, value in facts.items()}
