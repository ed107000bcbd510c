"""Each agent's update against stable-baselines3's on the same weights, batches and noise; what stable-baselines3 lacks
(double, dueling, noisy, mse, asymmetric actions) against a slow version written from the formulas."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_agents import FRAMES, box, make, random_batch, some_obs, vectors
from stable_baselines3 import DDPG, DQN, TD3
from stable_baselines3.common.buffers import ReplayBufferSamples
from stable_baselines3.common.logger import Logger

from llmrl.checks import ConfigError

ARMS = spaces.Discrete(3)
TORQUES = box([-1] * 3, [1] * 3)


@pytest.fixture(autouse=True)
def own_global_generator():
    """stable-baselines3 draws from torch's global generator; no other test shall notice."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Empty(gym.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


def sb3_model(cls, policy, observation_space, action_space, **settings):
    model = cls(policy, Empty(observation_space, action_space), device="cpu", buffer_size=10, **settings)
    model.set_logger(Logger(None, []))
    return model


def sb3_update(model, batch):
    """One gradient step of stable-baselines3 on our batch; returns what it logged."""
    columns = (x[:, None] for x in (batch.terminated, batch.reward))
    actions = batch.action if batch.action.dim() == 2 else batch.action[:, None]
    data = ReplayBufferSamples(batch.obs, actions, batch.next_obs, *columns)
    model.replay_buffer.sample = lambda size, env: data
    model.train(1, len(batch.reward))
    return model.logger.name_to_value


def copy_weights(theirs, ours):
    """Their weights into our networks."""
    pairs = list(zip(theirs.parameters(), ours.parameters(), strict=True))
    for their, our in pairs:
        our.data.copy_(their.data)
    return pairs


def assert_same(pairs):
    for their, our in pairs:
        torch.testing.assert_close(our.data, their.data, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("policy, space", [("MlpPolicy", vectors(5)), ("CnnPolicy", FRAMES)])
def test_dqn_is_stable_baselines3s(policy, space):
    architecture = {"net_arch": [32, 16]} if policy == "MlpPolicy" else {}
    theirs = sb3_model(DQN, policy, space, ARMS, target_update_interval=3, max_grad_norm=10, policy_kwargs=architecture)
    ours = make("dqn", space, ARMS, hidden=(32, 16), target_update_every=3)
    pairs = copy_weights(theirs.q_net, ours.q)
    pairs += copy_weights(theirs.q_net_target, ours.target)
    for i in range(7):
        batch = random_batch(space, ARMS, 16, seed=i)
        batch = batch._replace(reward=batch.reward * 30)  # so that the gradient is clipped and huber is not mse
        logged = sb3_update(theirs, batch)
        theirs._on_step()
        assert ours.update(batch)["loss"].item() == pytest.approx(logged["train/loss"], rel=1e-5)
        assert_same(pairs)


@pytest.mark.parametrize("cls, name", [(TD3, "td3"), (DDPG, "ddpg")])
def test_td3_and_ddpg_are_stable_baselines3s(cls, name):
    space = vectors(5)
    rates, net = {"learning_rate": 1e-3, "tau": 0.1}, {"net_arch": [32, 24]}
    theirs = sb3_model(cls, "MlpPolicy", space, TORQUES, policy_kwargs=net, **rates)
    ours = make(name, space, TORQUES, hidden=(32, 24), actor_learning_rate=1e-3, critic_learning_rate=1e-3, tau=0.1)
    pairs = copy_weights(theirs.actor, ours.actor) + copy_weights(theirs.critic, ours.critic)
    pairs += copy_weights(theirs.actor_target, ours.target_actor)
    pairs += copy_weights(theirs.critic_target, ours.target_critic)
    for i in range(6):
        batch = random_batch(space, TORQUES, 32, seed=i)
        torch.manual_seed(100 + i)
        logged = sb3_update(theirs, batch)
        ours.gen.manual_seed(100 + i)
        out = ours.update(batch)
        assert out["critic_loss"].item() == pytest.approx(logged["train/critic_loss"], rel=1e-5)
        if "actor_loss" in out:
            assert out["actor_loss"].item() == pytest.approx(logged["train/actor_loss"], rel=1e-4, abs=1e-6)
        assert_same(pairs)


# --- slow and plain, from the formulas ------------------------------------------------------------------------------


class PlainAdam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, parameters, learning_rate):
        self.parameters, self.learning_rate, self.t = parameters, learning_rate, 0
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]

    def step(self, loss):
        self.t += 1
        for p, g, m, v in zip(self.parameters, torch.autograd.grad(loss, self.parameters), self.m, self.v):
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p.data -= self.learning_rate * m_hat / (v_hat.sqrt() + 1e-8)


@pytest.mark.parametrize("space", [vectors(5), spaces.Box(0, 255, (3, 44, 36), np.uint8)])
def test_dqn_acts_by_the_network_that_it_updates(space):
    agent = make("dqn", space, ARMS, learning_rate=1e-2, hidden=(32, 16))
    obs = some_obs(space, 200, np.random.default_rng(0))
    for seed in range(5):
        with torch.no_grad():
            expected = agent.q(torch.from_numpy(obs))
        quick = agent.quick_q(obs) if agent.quick_q else agent.values.act(obs)
        np.testing.assert_allclose(quick, expected, rtol=1e-4, atol=1e-5)
        expected = expected.argmax(1).numpy()
        np.testing.assert_array_equal(agent.act(obs, explore=False, gen=torch.Generator()), expected)
        agent.update(random_batch(space, ARMS, 64, seed))
    other = make("dqn", space, ARMS, seed=1, hidden=(32, 16))
    other.load_state_dict(agent.state_dict())
    actions = [a.act(obs, explore=False, gen=torch.Generator()) for a in (agent, other)]
    np.testing.assert_array_equal(*actions)


def plain_parameters(module):
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}


def plain_stream(p, stream, x, noise):
    i = 0
    while f"{stream}.{i}.weight" in p:
        w, b = p[f"{stream}.{i}.weight"], p[f"{stream}.{i}.bias"]
        if noise:
            f_out, f_in = noise.pop(0)
            s = p[f"{stream}.{i}.sigma_weight"]
            w = torch.stack([w[j] + s[j] * f_out[j] * f_in for j in range(len(w))])
            b = b + p[f"{stream}.{i}.sigma_bias"] * f_out
        x = torch.relu(x) if i else x
        x = w @ x + b
        i += 1
    return x


def plain_q(p, s, noise):
    """Q(s, .) of one observation: A, or V + A - mean A."""
    noise = list(noise)
    a = plain_stream(p, "advantage", s, noise)
    if "value.0.weight" not in p:
        return a
    return plain_stream(p, "value", s, noise) + a - a.sum() / len(a)


def plain_noise(p, gen):
    """f(eps) = sign(eps) sqrt |eps| of every layer's outputs and inputs, in the order of the layers."""
    shapes = [w.shape for name, w in p.items() if name.endswith(".weight") and f"{name[:-6]}sigma_weight" in p]
    eps = torch.randn(sum(n + m for n, m in shapes), generator=gen).tolist() if shapes else []
    f = [np.sign(e) * np.sqrt(abs(e)) for e in eps]
    take = lambda n: torch.tensor([f.pop(0) for _ in range(n)], dtype=torch.float32)  # noqa: E731
    return [(take(n), take(m)) for n, m in shapes]


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse", "max_grad_norm": None},
        {"double": True},
        {"dueling": True},
        {"noisy": True},
        {"double": True, "dueling": True, "noisy": True, "sigma0": 1.0, "loss": "mse", "max_grad_norm": None},
    ],
    ids=lambda o: "-".join(o),
)
def test_dqn_options_are_their_formulas(options):
    settings = {"loss": "huber", "double": False, "max_grad_norm": None} | options
    agent = make("dqn", vectors(4), ARMS, hidden=(8, 6), target_update_every=2, learning_rate=1e-3, **settings)
    p = plain_parameters(agent.q)
    p_target = copy.deepcopy(p)
    gen = torch.Generator()
    gen.set_state(agent.gen.get_state())
    adam = PlainAdam(list(p.values()), 1e-3)
    for i in range(5):
        batch = random_batch(vectors(4), ARMS, 6, seed=i)
        noise_target = plain_noise(p, gen)
        noise_select = plain_noise(p, gen) if settings["double"] else []
        noise = plain_noise(p, gen)
        loss = 0
        for s, a, r, s2, d in zip(batch.obs, batch.action, batch.reward, batch.next_obs, batch.terminated):
            q_target = plain_q(p_target, s2, noise_target)
            best = plain_q(p, s2, noise_select).argmax() if settings["double"] else q_target.argmax()
            y = (r + 0.99 * (1 - d) * q_target[best]).detach()
            e = plain_q(p, s, noise)[a] - y
            if settings["loss"] == "mse":
                loss = loss + e**2 / 6
            else:
                loss = loss + (e**2 / 2 if abs(e) < 1 else abs(e) - 1 / 2) / 6
        adam.step(loss)
        if (i + 1) % 2 == 0:
            p_target = copy.deepcopy(p)
        assert agent.update(batch)["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
        for name, parameter in agent.q.named_parameters():
            torch.testing.assert_close(parameter.data, p[name].data, rtol=1e-5, atol=2e-6)


def test_td3s_noise_and_targets_follow_an_asymmetric_action_range():
    arm = box([0, -4], [1, 2])
    agent = make("td3", vectors(3), arm, hidden=(16,), target_noise=0.5, target_noise_clip=0.3)
    batch = random_batch(vectors(3), arm, 64, seed=1)
    gen = torch.Generator()
    gen.set_state(agent.gen.get_state())
    half, middle = torch.tensor([0.5, 3.0]), torch.tensor([0.5, -1.0])

    def q_i(net, s, a):
        h = torch.relu(net.layers[0].weight @ torch.cat([s, a]) + net.layers[0].bias)
        return (net.layers[1].weight @ h + net.layers[1].bias)[0]

    loss = 0
    for s, a, r, s2, d, n in zip(*batch[:5], torch.randn((64, 2), generator=gen)):
        mu = agent.actor.mlp.layers
        a2 = middle + half * torch.tanh(mu[1].weight @ torch.relu(mu[0].weight @ s2 + mu[0].bias) + mu[1].bias)
        a2 = a2 + torch.maximum(torch.minimum(0.5 * half * n, 0.3 * half), -0.3 * half)
        a2 = torch.maximum(torch.minimum(a2, torch.tensor([1.0, 2.0])), torch.tensor([0.0, -4.0]))
        y = r + 0.99 * (1 - d) * min(q_i(net, s2, a2) for net in agent.critic.nets)
        loss = loss + sum((q_i(net, s, a) - y) ** 2 for net in agent.critic.nets) / 64
    assert agent.update(batch)["critic_loss"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_absolute_noise_is_in_environment_units():
    weak = box([-0.4] * 2, [0.4] * 2)
    absolute = make("td3", vectors(3), weak, noise_units="absolute")
    relative = make("td3", vectors(3), weak, noise_units="relative")
    assert absolute.sigma.tolist() == pytest.approx([0.2, 0.2]) and absolute.clip.tolist() == pytest.approx([0.5, 0.5])
    assert relative.sigma.tolist() == pytest.approx([0.08] * 2) and relative.clip.tolist() == pytest.approx([0.2] * 2)


# --- what every agent keeps to --------------------------------------------------------------------------------------

PAIRS = [
    ("dqn", vectors(5), ARMS, {}),
    ("dqn", FRAMES, ARMS, {"noisy": True, "dueling": True, "double": True}),
    ("dqn", spaces.Dict({"b": vectors(2), "a": vectors(3)}), ARMS, {}),
    ("ddpg", vectors(5), TORQUES, {}),
    ("td3", spaces.Dict({"b": vectors(2), "a": vectors(3)}), TORQUES, {}),
]


@pytest.mark.parametrize("name, space, actions, options", PAIRS)
def test_a_restored_agent_goes_on_exactly(name, space, actions, options, tmp_path):
    agent = make(name, space, actions, **options)
    batches = [random_batch(space, actions, 8, seed=i) for i in range(6)]
    for batch in batches[:3]:
        agent.update(batch)
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    for batch in batches[3:]:
        agent.update(batch)
    other = make(name, space, actions, seed=9, **options)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=False))
    for batch in batches[3:]:
        other.update(batch)
    mine, his = (
        dict(
            torch.nn.ModuleDict({k: v for k, v in vars(a).items() if isinstance(v, torch.nn.Module)}).named_parameters()
        )
        for a in (agent, other)
    )
    assert mine.keys() == his.keys() and len(mine) > 3
    assert all(torch.equal(mine[k], his[k]) for k in mine)
    assert torch.equal(agent.gen.get_state(), other.gen.get_state())


@pytest.mark.parametrize("name, space, actions, options", PAIRS)
def test_nothing_touches_the_global_generators_and_acting_changes_nothing(name, space, actions, options):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    agent = make(name, space, actions, **options)
    agent.update(random_batch(space, actions, 8, seed=0))
    before = copy.deepcopy(agent.state_dict())
    obs = random_batch(space, actions, 4, seed=1).obs
    obs = {k: v.numpy() for k, v in obs.items()} if isinstance(obs, dict) else obs.numpy()
    gen = torch.Generator().manual_seed(5)
    for explore in (False, True):
        action = agent.act(obs, explore=explore, gen=gen)
        assert action.shape == (4, *actions.shape) and all(actions.contains(a) for a in action)
    after = agent.state_dict()
    assert torch.equal(after["gen"], before["gen"]) and after["updates"] == before["updates"]
    weights = [k for k in before if k not in ("gen", "updates") and "adam" not in k]
    assert all(torch.equal(after[k][n], w) for k in weights for n, w in before[k].items())
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()


def test_a_noisy_network_explores_with_noise_and_is_evaluated_without():
    agent = make("dqn", vectors(5), spaces.Discrete(9), noisy=True, sigma0=3.0)
    obs, gen = random_batch(vectors(5), ARMS, 50, seed=0).obs.numpy(), torch.Generator().manual_seed(0)
    greedy = agent.act(obs, explore=False, gen=gen)
    assert (greedy == agent.act(obs, explore=False, gen=gen)).all()
    assert (greedy != agent.act(obs, explore=True, gen=gen)).any()


def test_the_paper_settings_of_llm_explorer_give_five_actor_updates_in_ten():
    agent = make("td3", vectors(3), TORQUES, updates_per_env_step=10, policy_delay=2, hidden=(8,))
    outs = [agent.update(random_batch(vectors(3), TORQUES, 8, seed=i)) for i in range(10)]
    assert sum("actor_loss" in out for out in outs) == 5


def test_unfit_spaces_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="agent=td3"):
        make("dqn", vectors(3), TORQUES)
    with pytest.raises(ConfigError, match="agent=dqn"):
        make("td3", vectors(3), ARMS)
    with pytest.raises(ConfigError, match="bounded"):
        make("ddpg", vectors(3), vectors(2))
    with pytest.raises(ConfigError, match="Dict of Boxes"):
        make("dqn", spaces.Discrete(5), ARMS)
    with pytest.raises(ValueError, match="epsilon_end"):
        make("dqn", vectors(3), ARMS, epsilon_start=0.1, epsilon_end=0.2)
