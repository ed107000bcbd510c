"""Do Rainbow and RND-DQN learn, and does CURL tell pictures apart? One core, a minute or two each."""

import sys
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from test_learn_agents import CART_POLE, train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_agents import make, random_batch  # noqa: E402

torch.set_num_threads(1)


RAINBOW = {
    "learning_rate": 5e-4,
    "batch_size": 64,
    "v_min": 0.0,
    "v_max": 100.0,
    "learning_starts": 500,
    "updates_per_env_step": 0.5,
    "target_update_every": 250,
    "replay_size": 10_000,
}


def test_rainbow_balances_the_pole_with_its_noise_alone():
    """Random play lasts about 20 steps, the longest episode 500."""
    assert train("rainbow", "CartPole-v1", 10_000, **RAINBOW) > 195


def test_rainbow_balances_the_pole_with_epsilon_on_top():
    epsilon = {"epsilon_schedule": "linear", "epsilon_fraction": 0.3, "sigma0": 0.1, "acting_noise": "every_update"}
    assert train("rainbow", "CartPole-v1", 10_000, **RAINBOW | epsilon) > 195


def test_rnd_dqn_balances_the_pole():
    bonus = {"rnd_size": 16, "rnd_predictor_hidden": (64,), "replay_size": 10_000}
    assert train("rnd_dqn", "CartPole-v1", 15_000, **CART_POLE | bonus) > 195


def test_curls_encoder_learns_which_crops_belong_together():
    """Faint random pictures of 4 x 4 squares. Guessing the right one of 32 keys has a loss of log 32 = 3.5."""
    rng = np.random.default_rng(0)
    space, arms = spaces.Box(0, 255, (4, 44, 44), np.uint8), spaces.Discrete(3)
    agent = make("curl", space, arms, hidden_after_convolutions=(32,))
    losses = []
    for i in range(300):
        squares = rng.integers(100, 148, size=(32, 1, 4, 4), dtype=np.uint8)
        pictures = torch.from_numpy(np.kron(squares, np.ones((1, 4, 11, 11), np.uint8)))
        batch = random_batch(space, arms, 32, seed=i)._replace(obs=pictures, discount=torch.full((32,), 0.9))
        losses.append(agent.update(batch)["contrastive"].item())
    assert np.mean(losses[:5]) > 3.3 and np.mean(losses[-20:]) < 2.4
