"""Does each agent learn? One core, about a minute each; `make test-learn` runs these, `make test` does not."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_agents import make  # noqa: E402

from llmrl.contracts.agent import executed  # noqa: E402
from llmrl.contracts.explorer import Clock  # noqa: E402
from llmrl.contracts.replay import Step  # noqa: E402

torch.set_num_threads(1)


def train(name, env_id, env_steps, **changes):
    """The shortest loop there is. Returns the best of the mean returns of five greedy episodes, every 2500 env_steps
    and at the end: a DQN that balances the pole may lose it again for a while."""
    env = gym.make(env_id)
    agent = make(name, env.observation_space, env.action_space, env_steps=env_steps, **changes)
    buffer, explorer, clock = agent.replay_buffer(), agent.explorer(), Clock()
    rng, gen = np.random.default_rng(0), torch.Generator().manual_seed(0)
    obs, _ = env.reset(seed=0)
    evaluations = []
    while clock.env_steps < env_steps:
        seen = obs[None]
        policy = lambda: agent.act(seen, explore=True, gen=gen)  # noqa: B023, E731
        action = explorer.propose(seen, policy, clock, [{}], rng)
        obs, reward, terminated, truncated, _ = env.step(executed(agent, action)[0])
        last = np.array([terminated or truncated])
        buffer.add(Step(seen, action, np.array([reward], np.float32), obs[None], np.array([terminated]), last))
        clock.env_steps += 1
        for batch in buffer.batches(buffer.num_updates(clock), rng, agent):
            buffer.after(batch, agent.update(batch))
            clock.updates += 1
        if last[0]:
            obs, _ = env.reset()
        if clock.env_steps % 2500 == 0 or clock.env_steps == env_steps:
            evaluations.append(np.mean([play(agent, env_id, seed) for seed in range(5)]))
    return max(evaluations)


def play(agent, env_id, seed):
    env, total, over = gym.make(env_id), 0.0, False
    obs, _ = env.reset(seed=seed)
    while not over:
        action = executed(agent, agent.act(obs[None], explore=False, gen=torch.Generator()))[0]
        obs, reward, terminated, truncated, _ = env.step(action)
        total, over = total + reward, terminated or truncated
    return total


CART_POLE = {
    "learning_rate": 5e-4,
    "batch_size": 64,
    "hidden": (128, 128),
    "learning_starts": 500,
    "random_steps": 500,
    "updates_per_env_step": 0.5,
    "target_update_every": 250,
    "epsilon_fraction": 0.3,
}


def test_dqn_balances_the_pole():
    """Random play lasts about 20 steps, the longest episode 500."""
    assert train("dqn", "CartPole-v1", 15_000, **CART_POLE) > 195


def test_dqn_with_all_its_options_learns_too():
    """Standard noise is much for so short a training: five times random play is asked for, not a balanced pole."""
    options = {"double": True, "dueling": True, "noisy": True, "epsilon_start": 0.05}
    assert train("dqn", "CartPole-v1", 15_000, **CART_POLE | options) > 100


PENDULUM = {"learning_starts": 1000, "random_steps": 1000, "batch_size": 128, "hidden": (64, 64)}
RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}


@pytest.mark.parametrize("name", ["ddpg", "td3"])
def test_ddpg_and_td3_swing_the_pendulum_up(name):
    """Random play returns about -1200, a pendulum that is swung up and held about -150."""
    assert train(name, "Pendulum-v1", 8000, **PENDULUM, **RATES) > -300


def test_sac_swings_the_pendulum_up():
    assert train("sac", "Pendulum-v1", 5000, **PENDULUM, learning_rate=1e-3) > -300


def test_ppo_balances_the_pole():
    assert train("ppo", "CartPole-v1", 20_000, n_steps=512) > 195


def test_ppo_swings_the_pendulum_up():
    """With a short horizon, which is the usual setting for PPO here: gamma 0.9."""
    assert train("ppo", "Pendulum-v1", 60_000, n_steps=1024, gamma=0.9, learning_rate=1e-3) > -400
