"""States that a task really has, for the checks of a program before anything is trained."""

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from llmrl.runs import seeding
from llmrl.runs.evaluate import uniform_policy

EPISODE_STEPS = 100  # of the rollouts, so that there are resets among them


def real_steps(env: gym.Env, n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """n states (n, d) from a random policy, resets among them, and the rewards (n,) of the steps that left them."""
    act, rng = uniform_policy(env.action_space), seeding.generator(seed, "real_states")
    states: list[NDArray] = []
    rewards: list[float] = []
    episode = 0
    while len(states) < n:
        obs, _ = env.reset(seed=seeding.integer(seed, "real_states", episode))
        episode += 1
        for _ in range(min(EPISODE_STEPS, n - len(states))):
            states.append(np.array(obs, np.float64))
            obs, reward, terminated, truncated, _ = env.step(act(obs[None], rng)[0])
            rewards.append(float(reward))
            if terminated or truncated:
                break
    return np.array(states), np.array(rewards)
