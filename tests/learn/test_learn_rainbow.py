"""Do Rainbow and RND-DQN learn, and does CURL tell pictures apart? One core, a minute or two each."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from test_learn_agents import CART_POLE, play

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_agents import make, random_batch  # noqa: E402

from llmrl.explore.base import Clock  # noqa: E402
from llmrl.replay.base import Step  # noqa: E402

torch.set_num_threads(1)


def train(name, env_id, env_steps, **changes):
    """The shortest loop there is, priorities included; the best mean of five greedy episodes, every 2500 env_steps."""
    env = gym.make(env_id)
    agent = make(name, env.observation_space, env.action_space, env_steps=env_steps, **changes)
    memory, explorer, clock = agent.memory(), agent.explorer(), Clock()
    rng, gen = np.random.default_rng(0), torch.Generator().manual_seed(0)
    obs, _ = env.reset(seed=0)
    evaluations = []
    while clock.env_steps < env_steps:
        seen = obs[None]
        policy = lambda: agent.act(seen, explore=True, gen=gen)  # noqa: B023, E731
        action = explorer.propose(seen, policy, clock, [{}], rng)
        obs, reward, terminated, truncated, _ = env.step(action[0])
        last = np.array([terminated or truncated])
        memory.add(Step(seen, action, np.array([reward], np.float32), obs[None], np.array([terminated]), last))
        clock.env_steps += 1
        for batch in memory.batches(memory.due(clock), rng, agent):
            memory.after(batch, agent.update(batch))
            clock.updates += 1
        if last[0]:
            obs, _ = env.reset()
        if clock.env_steps % 2500 == 0 or clock.env_steps == env_steps:
            evaluations.append(np.mean([play(agent, env_id, seed) for seed in range(5)]))
    return max(evaluations)


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
