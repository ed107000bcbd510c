"""Rainbow's update against a slow version with loops over atoms, its networks, its exploration, and its resume."""

import copy

import numpy as np
import pytest
import torch
from conftest import SHORT, compose
from gymnasium import spaces
from small_agents import FRAMES, config, make, random_batch, vectors
from test_resume_in_process import equal, lives, uninterrupted  # noqa: F401

from llmrl.agents.nets_distributional import DataEfficientCNN, PooledCNN
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.envs.atari import make as make_env
from llmrl.explore.epsilon_greedy import EpsilonGreedy
from llmrl.explore.unchanged import Unchanged
from llmrl.replay.frames import FrameReplay
from llmrl.replay.uniform import UniformReplay

ARMS = spaces.Discrete(3)

# --- slow and plain, from the formulas ------------------------------------------------------------------------------


class PlainAdam:
    """Kingma and Ba 2015, algorithm 1, after the gradient's norm was clipped."""

    def __init__(self, parameters, learning_rate, eps, max_norm):
        self.parameters, self.learning_rate, self.eps, self.max_norm = parameters, learning_rate, eps, max_norm
        self.t = 0
        self.m, self.v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))

    def step(self, loss):
        self.t += 1
        gradients = torch.autograd.grad(loss, self.parameters)
        norm = sum(float((g.double() ** 2).sum()) for g in gradients) ** 0.5
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v):
            g = g * min(1.0, self.max_norm / norm)
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            p.data -= self.learning_rate * (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + self.eps)


def plain_noise(p, gen):
    """f(eps) = sign(eps) sqrt |eps| of the outputs and inputs of every layer, in their order."""
    shapes = [w.shape for name, w in p.items() if name.endswith(".sigma_weight")]
    f = [np.sign(e) * np.sqrt(abs(e)) for e in torch.randn(sum(n + m for n, m in shapes), generator=gen).tolist()]
    names = [name[: -len(".sigma_weight")] for name in p if name.endswith(".sigma_weight")]
    take = lambda n: torch.tensor([f.pop(0) for _ in range(n)], dtype=torch.float32)  # noqa: E731
    return {name: (take(n), take(m)) for name, (n, m) in zip(names, shapes)}


def plain_probabilities(p, s, noise, atoms):
    """p(s, a) of one observation: a list over actions of lists over atoms, as tensors."""

    def stream(name, x):
        i = 0
        while f"{name}.{i}.weight" in p:
            layer = f"{name}.{i}"
            f_out, f_in = noise[layer]
            w, s_w = p[f"{layer}.weight"], p[f"{layer}.sigma_weight"]
            w = torch.stack([w[j] + s_w[j] * f_out[j] * f_in for j in range(len(w))])
            x = torch.relu(x) if i else x
            x = w @ x + p[f"{layer}.bias"] + p[f"{layer}.sigma_bias"] * f_out
            i += 1
        return x

    v, a = stream("value", s), stream("advantage", s)
    n_actions = len(a) // atoms
    rows = [a[k * atoms : (k + 1) * atoms] for k in range(n_actions)]
    mean = sum(rows) / n_actions
    exponentials = [torch.exp(v + row - mean) for row in rows]
    return [e / e.sum() for e in exponentials]


def plain_projection(p_next, r, discount, z):
    """Bellemare et al. 2017, algorithm 1, atom by atom."""
    m, dz = [0.0] * len(z), z[1] - z[0]
    for j, p_j in enumerate(p_next):
        tz = min(max(r + discount * z[j], z[0]), z[-1])
        b = (tz - z[0]) / dz
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            m[lower] += p_j
        else:
            m[lower] += p_j * (upper - b)
            m[upper] += p_j * (b - lower)
    return m


@pytest.mark.parametrize("max_norm", [0.05, 1e6])
def test_updates_are_their_formulas(max_norm):
    """Five updates with copies to the target network; some returns fall beyond the atoms' range, some on an atom."""
    settings = {"atoms": 7, "v_min": -1.5, "v_max": 3.0, "target_update_every": 2, "learning_rate": 1e-3}
    agent = make("rainbow", vectors(4), ARMS, hidden=(8,), max_grad_norm=max_norm, **settings)
    z = np.linspace(-1.5, 3, 7).tolist()
    p = {name: w.detach().clone().requires_grad_() for name, w in agent.q.named_parameters()}
    p_target = copy.deepcopy(p)
    gen = torch.Generator()
    gen.set_state(agent.gen.get_state())
    adam = PlainAdam(list(p.values()), 1e-3, 1.5e-4, max_norm)
    for i in range(5):
        rng = np.random.default_rng(i)
        batch = random_batch(vectors(4), ARMS, 6, seed=i)
        batch = batch._replace(
            reward=torch.cat([batch.reward[:5] * 3, torch.zeros(1)]),
            discount=torch.from_numpy(0.99 ** rng.integers(1, 4, size=6)).float(),
            weight=torch.from_numpy(rng.uniform(0.2, 1, 6)).float(),
        )
        noise_target, noise_select, noise = (plain_noise(p, gen) for _ in range(3))
        losses = []
        for s, a, r, s2, d, discount in zip(*batch[:6]):
            select = plain_probabilities(p, s2, noise_select, 7)
            q = [sum(z[j] * row[j].item() for j in range(7)) for row in select]
            best = plain_probabilities(p_target, s2, noise_target, 7)[int(np.argmax(q))]
            m = plain_projection(best.tolist(), float(r), float(discount) * (1 - float(d)), z)
            chosen = plain_probabilities(p, s, noise, 7)[a]
            losses.append(-sum(m[j] * torch.log(chosen[j]) for j in range(7)))
        adam.step(sum(w * loss for w, loss in zip(batch.weight, losses)) / 6)
        if (i + 1) % 2 == 0:
            p_target = copy.deepcopy(p)
        out = agent.update(batch)
        assert out["priority"].tolist() == pytest.approx([loss.item() for loss in losses], rel=1e-4)
        assert out["loss"].item() == pytest.approx(np.mean([loss.item() for loss in losses]), rel=1e-4)
        for name, parameter in agent.q.named_parameters():
            torch.testing.assert_close(parameter.data, p[name].data, rtol=1e-4, atol=5e-6)
    assert torch.equal(gen.get_state(), agent.gen.get_state())


def test_a_projection_is_a_distribution_and_keeps_the_mean_inside_the_range():
    agent = make("rainbow", vectors(2), ARMS)
    batch = random_batch(vectors(2), ARMS, 50, seed=0)._replace(discount=torch.full((50,), 0.5))
    p = torch.rand(50, 51).softmax(1)
    m = agent._project(p, batch)
    torch.testing.assert_close(m.sum(1), torch.ones(50))
    mean = batch.reward + 0.5 * (1 - batch.terminated) * (p @ agent.q.z)
    torch.testing.assert_close(m @ agent.q.z, mean, rtol=1e-4, atol=1e-4)


# --- networks -------------------------------------------------------------------------------------------------------


def test_the_convolutions_are_those_of_the_papers():
    nn = torch.nn
    frames = torch.from_numpy(np.random.default_rng(0).integers(256, size=(2, 4, 130, 144), dtype=np.uint8))
    pooled = PooledCNN((4, 130, 144))
    channels, sizes, layers = [4, 32, 64, 64, 32, 3], [7, 5, 5, 5, 5], []
    for i, size in enumerate(sizes):
        layers += [nn.Conv2d(channels[i], channels[i + 1], size, padding=size // 2), nn.ReLU(), nn.MaxPool2d(2)]
    plain = nn.Sequential(*layers[:-1], nn.Flatten())
    plain.load_state_dict(dict(zip(plain.state_dict(), pooled.state_dict().values())))
    assert pooled.size == 3 * 8 * 9
    torch.testing.assert_close(pooled(frames), plain(frames / 255))
    assert DataEfficientCNN((4, 84, 84)).size == 576


def test_acting_follows_the_expected_values():
    agent = make("rainbow", vectors(4), ARMS, hidden=(8,), atoms=5, v_min=-1, v_max=1)
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype("f")
    none = {f"{s}.{i}": (torch.zeros(n), torch.zeros(m)) for s in ("advantage", "value")
            for i, (n, m) in enumerate(layer.weight.shape for layer in getattr(agent.q, s))}  # fmt: skip
    p = dict(agent.q.named_parameters())
    for s, action in zip(obs, agent.act(obs, explore=False, gen=torch.Generator())):
        rows = [row.detach() for row in plain_probabilities(p, torch.from_numpy(s), none, 5)]
        assert action == np.argmax([float((row * torch.linspace(-1, 1, 5)).sum()) for row in rows])


@pytest.mark.parametrize("game", ["freeway", "pong"])
def test_the_papers_input_is_a_piece_of_the_screen_after_black_frames(game):
    run = from_node(compose(["agent=rainbow", f"env=atari/{game}", "env/atari/preprocess=llm_explorer_rainbow"]))
    env = make_env(run.env, "train")
    obs, _ = env.reset(seed=3)
    assert obs.shape == env.observation_space.shape == (4, 130, 144)
    assert not obs[:3].any() and obs[3].any()
    for _ in range(4):
        before = obs.copy()
        obs = env.step(env.action_space.n - 1)[0]
        assert np.array_equal(obs[:3], before[1:])
        assert np.array_equal(obs[3], env.ale.getScreenGrayscale()[28:158, 8:152])
    assert obs[0].any()


# --- exploration ----------------------------------------------------------------------------------------------------


def noisy_actions(agent, gen, n=30):
    obs = np.random.default_rng(0).standard_normal((40, 4)).astype("f")
    return [agent.act(obs, explore=True, gen=gen).tolist() for _ in range(n)]


def test_noise_is_new_at_every_step_or_held_until_the_next_update():
    gen = torch.Generator().manual_seed(0)
    fresh = make("rainbow", vectors(4), ARMS, sigma0=3.0)
    assert len({tuple(a) for a in noisy_actions(fresh, gen)}) > 5
    held = make("rainbow", vectors(4), ARMS, sigma0=3.0, acting_noise="every_update")
    before = noisy_actions(held, gen)
    assert len({tuple(a) for a in before}) == 1
    held.update(random_batch(vectors(4), ARMS, 8, seed=0))
    after = noisy_actions(held, gen)
    assert len({tuple(a) for a in after}) == 1 and after[0] != before[0]
    other = make("rainbow", vectors(4), ARMS, sigma0=3.0, acting_noise="every_update", seed=5)
    other.load_state_dict(copy.deepcopy(held.state_dict()))
    assert noisy_actions(other, gen) == after


def test_epsilon_is_an_addition_and_without_it_there_is_nothing_to_shape(tmp_path):
    assert isinstance(make("rainbow", vectors(4), ARMS).explorer(), Unchanged)
    greedy = make("rainbow", vectors(4), ARMS, epsilon_schedule="exponential", epsilon_end=0.1).explorer()
    assert isinstance(greedy, EpsilonGreedy)
    assert greedy.schedule(0) == 1 and greedy.schedule(10**6) == 0.1
    assert greedy.schedule(1000) == pytest.approx(0.99999**1000)


def test_llm_explorer_refuses_noise_alone(lives):  # noqa: F811
    node = compose(["method=llm_explorer", "env=classic/cart_pole", "agent=rainbow"])
    with pytest.raises(ConfigError, match="no distribution"):
        lives(from_node(node), "refused").live()


@pytest.mark.parametrize(
    "changes, message",
    [({"atoms": 1}, "atoms: 1"), ({"v_min": 10}, "v_min: 10"), ({"n_envs": 9, "replay_size": 8}, "replay_size: 8"),
     ({"epsilon_start": 0.01}, "epsilon_end: 0.05")],
)  # fmt: skip
def test_what_cannot_be_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        config("rainbow", **changes)


def test_continuous_actions_are_refused():
    with pytest.raises(ConfigError, match="Rainbow needs actions"):
        make("rainbow", vectors(4), spaces.Box(-1, 1, (2,)))


def test_the_replay_buffer_follows_the_observation_space_and_anneals_over_the_budget():
    buffer = make("rainbow", FRAMES, ARMS, replay_size=50, env_steps=100, learning_starts=20).replay_buffer()
    assert isinstance(buffer.rows.rows, FrameReplay) and buffer.anneal_updates == 20
    assert isinstance(make("rainbow", vectors(2), ARMS, replay_size=50).replay_buffer().rows.rows, UniformReplay)


# --- resume ---------------------------------------------------------------------------------------------------------

SMALL = ["agent.hidden=[16]", "agent.hidden_after_convolutions=[16]", "agent.batch_size=8", "agent.learning_starts=10",
         "agent.target_update_every=4", *SHORT]  # fmt: skip
RAINBOW = ["agent.atoms=7", "agent.updates_per_env_step=0.5", "agent.epsilon_schedule=linear"]
FREEWAY = ["env=atari/freeway", "env.preprocess.max_frames=28", "agent.replay_size=16", "budget.env_steps=32",
           "eval.every=12"]  # fmt: skip
POLE = ["env=classic/cart_pole", "agent.replay_size=24", "eval.every=20"]
CASES = {
    "rainbow": ["agent=rainbow", *POLE, *RAINBOW, "agent.acting_noise=every_update", "budget.env_steps=50"],
    "rainbow_3_envs": ["agent=rainbow", *POLE, *RAINBOW, "agent.n_envs=3", "budget.env_steps=90"],
    "rainbow_frames": ["agent=rainbow", "env/atari/preprocess=llm_explorer_rainbow", *FREEWAY, *RAINBOW],
    "curl": ["agent=curl", "agent.hidden=[]", "env/atari/preprocess=llm_explorer", *FREEWAY, *RAINBOW],
    "rnd_dqn": ["agent=rnd_dqn", "agent.random_steps=5", "agent.rnd_size=4", "agent.rnd_predictor_hidden=[8]", *POLE,
                "agent.updates_per_env_step=1", "budget.env_steps=50"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_stopped_before_every_third_step(case, lives):  # noqa: F811
    """Byte for byte like the run that was not: weights, priorities, rows, metrics, evaluations, transcript."""
    explorer = ["method=llm_explorer", "method.k=2", "method.m=5"]
    run = from_node(compose([*explorer, *SMALL, *CASES[case]]))
    expected = uninterrupted(lives, run)
    assert expected["state"]["clock"]["updates"] >= 4
    n_lives = 1
    while not (life := lives(run, "stopped", at=3)).live():
        n_lives += 1
    assert n_lives >= 9
    equal(life.left(), expected)
