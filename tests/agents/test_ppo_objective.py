"""PPO's objective where its clip is active, against the formula written out, in value and in gradient."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_agents import box, make, vectors

from llmrl.checks import ConfigError
from llmrl.contracts.replay import Batch

OBS = vectors(4)
# pi / pi_old and the advantage's sign: inside the clip of 0.2, and outside where it binds and where it does not
RHO = np.array([1.1, 0.9, 1.5, 1.5, 0.5, 0.5, 1.25, 0.79])
ADVANTAGE = np.array([2.0, -1.0, 1.0, -2.0, 0.5, -1.5, 3.0, -0.3])
SETTINGS = {"clip_range": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "hidden": (8,), "n_steps": 100}


def batch_for(agent, action_space, rng, rho=RHO, advantage=ADVANTAGE):
    n = len(rho)
    obs = torch.from_numpy(rng.standard_normal((n, 4)).astype(np.float32))
    action = [action_space.sample() for _ in range(n)]
    action = torch.from_numpy(np.array(action))
    with torch.no_grad():
        log_prob = agent.log_probs(obs, action) - torch.tensor(np.log(rho), dtype=torch.float32)
    return Batch(
        obs=obs, action=action, reward=torch.zeros(n), next_obs=obs, terminated=torch.zeros(n), discount=0.99,
        log_prob=log_prob, advantage=torch.tensor(advantage, dtype=torch.float32),
        value_target=torch.from_numpy(rng.standard_normal(n).astype(np.float32)),
    )  # fmt: skip


def entropy_of(agent, obs):
    with torch.no_grad():
        if hasattr(agent.policy, "logits"):
            p = agent.policy.logits(obs).softmax(1)
            return float(-(p * p.log()).sum(1).mean())
        # of a Gaussian: sum of 1/2 log(2 pi e sigma^2)
        return float((0.5 * np.log(2 * np.pi * np.e) + agent.policy.log_std).sum())


@pytest.mark.parametrize("action_space", [spaces.Discrete(3), box([-1, -1], [1, 1])], ids=["discrete", "continuous"])
def test_losses_and_gradients_are_those_of_the_formula(action_space, monkeypatch):
    action_space.seed(0)
    agent = make("ppo", OBS, action_space, **SETTINGS)
    if not hasattr(agent.policy, "logits"):
        agent.policy.log_std.data.copy_(torch.tensor([-0.5, 0.2]))
    batch = batch_for(agent, action_space, np.random.default_rng(0))
    losses = []
    monkeypatch.setattr(agent.optimizer, "step", losses.append)
    out = {name: float(value) for name, value in agent.update(batch).items()}

    a = (ADVANTAGE - ADVANTAGE.mean()) / (ADVANTAGE.std(ddof=1) + 1e-8)
    surrogate = np.minimum(RHO * a, RHO.clip(0.8, 1.2) * a)
    binds = surrogate != RHO * a
    assert 2 <= binds.sum() <= 6 and (binds & (a > 0)).any() and (binds & (a < 0)).any()
    with torch.no_grad():
        error = (agent.value(batch.obs).squeeze(1) - batch.value_target).numpy()
    entropy = entropy_of(agent, batch.obs)
    assert out == pytest.approx({
        "policy_loss": -surrogate.mean(), "value_loss": np.square(error).mean(), "entropy": entropy,
        "approx_kl": (RHO - 1 - np.log(RHO)).mean(), "clip_fraction": 6 / 8,
    }, rel=1e-4, abs=1e-5)  # fmt: skip
    (loss,) = losses
    assert loss.item() == pytest.approx(-surrogate.mean() + 0.7 * np.square(error).mean() - 0.03 * entropy, rel=1e-4)

    # where the clip binds a step moves the policy no further: its gradient is that of the other steps and the entropy
    ours = torch.autograd.grad(loss, list(agent.policy.parameters()))
    log_prob, mean_entropy = agent.policy.log_prob(batch.obs, batch.action)
    free = torch.tensor(np.where(binds, 0, a), dtype=torch.float32)
    written = -((log_prob - batch.log_prob).exp() * free).mean() - 0.03 * mean_entropy
    for our, expected in zip(ours, torch.autograd.grad(written, list(agent.policy.parameters())), strict=True):
        torch.testing.assert_close(our, expected, rtol=1e-4, atol=1e-6)


def test_a_single_step_keeps_its_advantage(monkeypatch):
    agent = make("ppo", OBS, spaces.Discrete(3), **SETTINGS)
    batch = batch_for(agent, spaces.Discrete(3), np.random.default_rng(1), np.array([2.0]), np.array([5.0]))
    monkeypatch.setattr(agent.optimizer, "step", lambda loss: None)
    assert float(agent.update(batch)["policy_loss"]) == pytest.approx(-1.2 * 5.0)
    assert agent.updates == 1


def test_a_budget_of_exactly_one_rollout_is_enough():
    assert make("ppo", OBS, spaces.Discrete(3), n_steps=10, n_envs=2, env_steps=20).replay_buffer().size == 20
    with pytest.raises(ConfigError, match="ends before the first update"):
        make("ppo", OBS, spaces.Discrete(3), n_steps=10, n_envs=2, env_steps=19)
