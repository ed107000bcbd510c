"""Real steps of a task, for the checks of a program before training."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmrl.runs import seeding

if TYPE_CHECKING:  # a report that names a program's function needs no environment
    import gymnasium as gym

EPISODE_STEPS = 100  # per rollout, so that resets are included


class Steps(NamedTuple):
    """n steps of a random policy."""

    states: NDArray[np.float64]  # (n, d)
    actions: NDArray[np.float64]  # (n, *action)
    next_states: NDArray[np.float64]  # (n, d)
    rewards: NDArray[np.float64]  # (n,)


def real_steps(env: "gym.Env", n: int, seed: int) -> Steps:
    """n steps of a random policy, resets included."""
    from llmrl.runs.evaluate import uniform_policy

    act, rng = uniform_policy(env.action_space), seeding.generator(seed, "real_states")
    rows: list[tuple[NDArray, NDArray, NDArray, float]] = []
    episode = 0
    while len(rows) < n:
        obs, _ = env.reset(seed=seeding.integer(seed, "real_states", episode))
        episode += 1
        for _ in range(min(EPISODE_STEPS, n - len(rows))):
            state, action = np.array(obs, np.float64), act(obs[None], rng)[0]
            obs, reward, terminated, truncated, _ = env.step(action)
            rows.append((state, np.array(action, np.float64), np.array(obs, np.float64), float(reward)))
            if terminated or truncated:
                break
    return Steps(*(np.array(column) for column in zip(*rows)))
