"""SAC's update against stable-baselines3's on the same weights, batches and noise, and what else SAC keeps to."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_agents import box, make, random_batch, vectors
from stable_baselines3 import SAC
from test_agents_sb3 import ARMS, TORQUES, assert_same, copy_weights, own_global_generator, sb3_model, sb3_update  # noqa: F401

from llmrl.checks import ConfigError

OBS = vectors(5)
SMALL = {"hidden": (32, 24), "learning_rate": 1e-3, "tau": 0.1}


def actor_pairs(theirs, ours):
    """Their weights into our actor, whose last layer holds their two; pairs of (theirs, ours), both as they change."""
    *hidden, last = ours.mlp.layers
    pairs = copy_weights(theirs.latent_pi, torch.nn.ModuleList(hidden))
    size = theirs.mu.out_features
    for layer, rows in ((theirs.mu, slice(0, size)), (theirs.log_std, slice(size, None))):
        for their, our in ((layer.weight, last.weight.data[rows]), (layer.bias, last.bias.data[rows])):
            our.copy_(their.data)
            pairs.append((their, our))
    return pairs


@pytest.mark.parametrize("learnt", [True, False])
def test_sac_is_stable_baselines3s(learnt):
    settings = {"learning_rate": 1e-3, "tau": 0.1, "ent_coef": "auto_0.7" if learnt else 0.7}
    theirs = sb3_model(SAC, "MlpPolicy", OBS, TORQUES, policy_kwargs={"net_arch": [32, 24]}, **settings)
    ours = make("sac", OBS, TORQUES, temperature=0.7, learn_temperature=learnt, **SMALL)
    pairs = actor_pairs(theirs.actor, ours.actor) + copy_weights(theirs.critic, ours.critic)
    pairs += copy_weights(theirs.critic_target, ours.target_critic)
    if learnt:
        pairs.append((theirs.log_ent_coef, ours.temperature.weights))
    for i in range(8):
        batch = random_batch(OBS, TORQUES, 32, seed=i)
        torch.manual_seed(100 + i)
        logged = sb3_update(theirs, batch)
        ours.gen.manual_seed(100 + i)
        out = ours.update(batch)
        assert out["critic_loss"].item() == pytest.approx(logged["train/critic_loss"], rel=1e-5)
        assert out["actor_loss"].item() == pytest.approx(logged["train/actor_loss"], rel=1e-4)
        assert out["temperature"].item() == pytest.approx(logged["train/ent_coef"], rel=1e-5)
        assert_same(pairs)
    alpha = ours.temperature.weights.exp().item()
    assert (alpha != pytest.approx(0.7, rel=1e-3)) == learnt


def test_log_pi_is_the_density_of_the_squashed_action():
    """What is drawn in an interval of actions, counted, against the integral of exp(log pi) over it."""
    agent = make("sac", vectors(1), box([-1], [1]), hidden=(8,))
    obs = torch.zeros(200_000, 1)
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        action, log_pi = agent.actor(obs, torch.randn(len(obs), 1, generator=gen))
    drawn = action[:, 0]
    for low, high in ((-0.9, -0.5), (-0.2, 0.3), (0.6, 0.8)):
        inside = (drawn > low) & (drawn < high)
        # E[1 / pi(a); a inside] is the length of the interval
        assert (inside / log_pi.exp()).mean().item() == pytest.approx(high - low, rel=0.02)


def test_actions_fill_an_asymmetric_range_and_log_pi_does_not_depend_on_it():
    small, large = box([-1, -1], [1, 1]), box([0, -4], [100, 2])
    agents = [make("sac", vectors(3), space, hidden=(16,)) for space in (small, large)]
    obs = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)
    a, b = (agent.act(obs, explore=True, gen=torch.Generator().manual_seed(1)) for agent in agents)
    np.testing.assert_allclose(b, [50, -1] + np.array([50, 3]) * a, rtol=1e-4, atol=1e-4)
    assert np.ptp(b[:, 0]) > 80 and all(large.contains(row) for row in b)
    log_pi = [agent.actor(torch.from_numpy(obs), torch.ones(2000, 2))[1] for agent in agents]
    assert torch.equal(*log_pi)


def test_it_learns_the_same_whatever_the_units_of_actions_are():
    """As stable-baselines3, whose networks see every action in -1 … 1."""
    small, large = box([-1, -1], [1, 1]), box([0, -4], [100, 2])
    agents = [make("sac", OBS, space, **SMALL) for space in (small, large)]
    for i in range(3):
        batch = random_batch(OBS, small, 32, seed=i)
        scaled = torch.tensor([50.0, -1.0]) + torch.tensor([50.0, 3.0]) * batch.action
        for agent, action in zip(agents, (batch.action, scaled)):
            agent.update(batch._replace(action=action))
    for net in ("actor", "critic"):
        for a, b in zip(*(getattr(agent, net).parameters() for agent in agents)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_temperature_holds_the_entropy_at_its_target():
    agent = make("sac", vectors(3), TORQUES, hidden=(16,), learning_rate=1e-2, target_entropy=1.0)
    batch = random_batch(vectors(3), TORQUES, 256, seed=0)
    outs = [agent.update(batch) for _ in range(600)]
    assert agent.target_entropy == 1.0
    assert np.mean([out["entropy"].item() for out in outs[-100:]]) == pytest.approx(1.0, abs=0.15)
    assert make("sac", vectors(3), TORQUES).target_entropy == -3


@pytest.mark.parametrize("space", [OBS, spaces.Dict({"b": vectors(2), "a": vectors(3)})], ids=["vector", "dict"])
def test_a_restored_agent_goes_on_exactly(space, tmp_path):
    batches = [random_batch(space, TORQUES, 8, seed=i) for i in range(6)]
    agent, other = make("sac", space, TORQUES), make("sac", space, TORQUES, seed=9)
    for batch in batches[:3]:
        agent.update(batch)
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for batch in batches[3:]:
        mine, its = agent.update(batch), other.update(batch)
        assert mine.keys() == its.keys() and all(torch.equal(mine[k], its[k]) for k in mine)
    assert torch.equal(agent.temperature.weights, other.temperature.weights)
    for net in ("actor", "critic"):
        pairs = zip(getattr(agent, net).parameters(), getattr(other, net).parameters())
        assert all(torch.equal(a, b) for a, b in pairs)
    assert agent.updates == other.updates == 6 and torch.equal(agent.gen.get_state(), other.gen.get_state())


def test_acting_changes_nothing_and_is_deterministic_in_an_evaluation():
    torch_state = torch.get_rng_state()
    agent = make("sac", OBS, TORQUES)
    own = agent.gen.get_state()
    obs, gen = np.zeros((50, 5), np.float32), torch.Generator().manual_seed(0)
    first, second = (agent.act(obs, explore=False, gen=gen) for _ in range(2))
    assert (first == second).all() and np.ptp(first, axis=0).max() < 1e-6
    noisy = agent.act(obs, explore=True, gen=gen)
    assert noisy.shape == (50, 3) and np.ptp(noisy, axis=0).min() > 0.5
    assert torch.equal(agent.gen.get_state(), own) and torch.equal(torch.get_rng_state(), torch_state)


def test_unfit_actions_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="SAC needs continuous actions.*agent=dqn"):
        make("sac", OBS, ARMS)
    with pytest.raises(ConfigError, match="SAC needs bounded actions"):
        make("sac", OBS, vectors(2))
