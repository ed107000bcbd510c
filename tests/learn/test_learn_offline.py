"""Do the offline agents learn? On CartPole episodes of a good policy that is often disturbed; a minute each at most.

The dataset is made here. `make test-learn` runs these, `make test` does not.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_agents import make  # noqa: E402

from llmrl.envs.history import WithHistory  # noqa: E402
from llmrl.replay.dataset import Transitions  # noqa: E402
from llmrl.runs.evaluate import batch_of_one  # noqa: E402

torch.set_num_threads(1)
DISTURBED = 0.6  # share of random actions in the data
STEPS = 20_000


def balance(obs):
    """Pushes to the side to which the pole falls, and a little towards the middle: it lasts 500 steps."""
    position, velocity, angle, falling = obs
    return int(angle + 0.5 * falling + 0.05 * position + 0.1 * velocity > 0)


@pytest.fixture(scope="module")
def data():
    env, rng = gym.make("CartPole-v1"), np.random.default_rng(0)
    columns = [[] for _ in range(6)]
    number = 0
    while len(columns[0]) < STEPS:
        obs, _ = env.reset(seed=number)
        number, over, step = number + 1, False, 0
        while not over:
            action = int(rng.integers(2)) if rng.random() < DISTURBED else balance(obs)
            following, reward, terminated, truncated, _ = env.step(action)
            for column, x in zip(columns, (obs, action, reward, following, terminated, step)):
                column.append(x)
            obs, over, step = following, terminated or truncated, step + 1
    types = (np.float32, np.int64, np.float32, np.float32, bool, np.int32)
    return Transitions(*(np.array(column, kind) for column, kind in zip(columns, types)))


def returns_of(agent, env, episodes=10):
    found = []
    for seed in range(episodes):
        obs, _ = env.reset(seed=1000 + seed)
        total, over = 0.0, False
        while not over:
            action = agent.act(batch_of_one(obs), explore=False, gen=torch.Generator())[0]
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        found.append(total)
    return np.mean(found)


FAST = {"learning_rate": 1e-3, "target_update_every": 200, "batch_size": 64}
# updates, settings, and how many times as long as the data's episodes it has to keep the pole up
CASES = {
    "bc": (1500, {}, 3),
    "cql": (4000, FAST | {"alpha": 1}, 3),
    "bcq": (4000, FAST, 1.3),  # both actions are frequent enough to be allowed, so its values decide
    "decision_transformer": (1500, {"learning_rate": 1e-3}, 1.5),
}


@pytest.mark.parametrize("name", CASES)
def test_it_does_better_than_who_made_the_data(name, data):
    """A policy that is disturbed so often keeps the pole up for some 100 steps."""
    assert 80 < data.returns.mean() < 120
    updates, changes, times = CASES[name]
    env = gym.make("CartPole-v1")
    if name == "decision_transformer":
        env = WithHistory(env, 10)
    agent = make(name, env.observation_space, env.action_space, **changes)
    source, rng = agent.source(data), np.random.default_rng(0)
    for _ in range(updates):
        agent.update(source.draw(rng))
    assert returns_of(agent, env) > times * data.returns.mean()
