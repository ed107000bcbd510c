"""PPO and its rollout against stable-baselines3's on the same weights and steps; clipped actions; resuming."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import SHORT, compose
from gymnasium import spaces
from small_agents import FRAMES, box, make, some_actions, some_obs, vectors
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from test_agents_sb3 import Empty, assert_same, copy_weights, own_global_generator  # noqa: F401
from test_resume_in_process import equal, lives  # noqa: F401

from llmrl import build
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.contracts.agent import executed
from llmrl.contracts.explorer import Clock
from llmrl.contracts.replay import Step
from llmrl.loops.online import OnlineTraining

OBS, ARMS, TORQUES = vectors(4), spaces.Discrete(3), box([-1, -1], [1, 1])
N_STEPS, N_ENVS = 24, 2
SMALL = {"hidden": (16, 12), "n_steps": N_STEPS, "n_envs": N_ENVS, "batch_size": 20, "n_epochs": 3}


def stepped(action_space, n_steps=N_STEPS, seed=0, observation_space=OBS):
    """Steps of two environments whose episodes terminate, are truncated, or lose a life (terminated, not last)."""
    rng = np.random.default_rng(seed)
    obs = some_obs(observation_space, N_ENVS, rng)
    for _ in range(n_steps):
        kind = rng.random(N_ENVS)
        terminated, last = (kind < 0.1) | (kind > 0.95), kind < 0.2
        next_obs, fresh = (some_obs(observation_space, N_ENVS, rng) for _ in range(2))
        reward = rng.standard_normal(N_ENVS).astype(np.float32)
        yield Step(obs, some_actions(action_space, N_ENVS, rng), reward, next_obs, terminated, last)
        obs = where(last, fresh, next_obs)


def where(last, fresh, obs):
    if isinstance(obs, dict):
        return {key: where(last, fresh[key], obs[key]) for key in obs}
    return np.where(last[:, None], fresh, obs)


def without_lost_lives(steps):
    """The same, each termination ending its episode, as everywhere in stable-baselines3."""
    return [s._replace(last=s.terminated | s.last) for s in steps]


def sb3_model(action_space):
    settings = {"n_steps": N_STEPS, "batch_size": 20, "n_epochs": 3, "ent_coef": 0.01, "learning_rate": 1e-3}
    model = PPO("MlpPolicy", Empty(OBS, action_space), device="cpu", policy_kwargs={"net_arch": [16, 12]}, **settings)
    model.set_logger(Logger(None, []))
    return model


def twin(model, action_space):
    """Our agent with their weights, and the pairs of parameters."""
    agent = make("ppo", OBS, action_space, ent_coef=0.01, learning_rate=1e-3, **SMALL)
    theirs, ours = model.policy, agent.policy
    net = ours.logits if isinstance(action_space, spaces.Discrete) else ours.mean
    pairs = copy_weights(torch.nn.ModuleList([theirs.mlp_extractor.policy_net, theirs.action_net]), net)
    pairs += copy_weights(torch.nn.ModuleList([theirs.mlp_extractor.value_net, theirs.value_net]), agent.value)
    if net is not getattr(ours, "logits", None):
        theirs.log_std.data.copy_(torch.tensor([-0.5, 0.2]))
        ours.log_std.data.copy_(theirs.log_std.data)
        pairs.append((theirs.log_std, ours.log_std))
    return agent, pairs


def sb3_rollout(model, steps, action_space):
    """Their buffer, filled as their collect_rollouts does it."""
    buffer = RolloutBuffer(N_STEPS, OBS, action_space, "cpu", gae_lambda=0.95, gamma=0.99, n_envs=N_ENVS)
    starts = np.ones(N_ENVS)
    with torch.no_grad():
        for s in steps:
            obs, action = torch.from_numpy(s.obs), torch.from_numpy(s.action)
            value, log_prob, _ = model.policy.evaluate_actions(obs, action)
            following = model.policy.predict_values(torch.from_numpy(s.next_obs)).numpy().flatten()
            reward = s.reward + 0.99 * following * (s.last & ~s.terminated)
            buffer.add(s.obs, s.action[:, None] if s.action.ndim == 1 else s.action, reward, starts, value, log_prob)
            starts = s.last
        buffer.compute_returns_and_advantage(torch.from_numpy(following), starts)
    return buffer


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")  # a short last one is meant here
@pytest.mark.parametrize("action_space", [ARMS, TORQUES], ids=["discrete", "continuous"])
def test_ppo_is_stable_baselines3s(action_space, monkeypatch):
    model = sb3_model(action_space)
    agent, pairs = twin(model, action_space)
    buffer, clock = agent.replay_buffer(), Clock()
    for number in range(2):  # the second rollout overwrites the first
        steps = without_lost_lives(stepped(action_space, seed=number))
        sb3_buffer = sb3_rollout(model, steps, action_space)
        for step in steps:
            assert buffer.num_updates(clock) == 0
            buffer.add(step)
            clock.env_steps += N_ENVS
        rollout = buffer.judged(agent)
        for ours, theirs in (
            (rollout.advantage, sb3_buffer.advantages),
            (rollout.value_target, sb3_buffer.returns),
            (rollout.log_prob, sb3_buffer.log_probs),
        ):
            np.testing.assert_allclose(ours.reshape(N_STEPS, N_ENVS), theirs, rtol=1e-5, atol=1e-6)

        # their rows stand environment by environment, ours step by step
        orders = np.random.default_rng(5 + number)
        monkeypatch.setattr(np.random, "permutation", lambda n: their_order(orders.permutation(n)))  # noqa: B023
        model.rollout_buffer = sb3_buffer
        model.train()
        rng = np.random.default_rng(5 + number)
        assert buffer.num_updates(clock) == 3 * 3  # epochs of 20 + 20 + 8 steps
        outs = []
        for batch in buffer.batches(buffer.num_updates(clock), rng, agent):
            outs.append(agent.update(batch))
            clock.updates += 1
        assert_same(pairs)
        logged, means = model.logger.name_to_value, {k: np.mean([o[k].item() for o in outs]) for k in outs[0]}
        assert means["policy_loss"] == pytest.approx(logged["train/policy_gradient_loss"], rel=1e-4)
        assert means["value_loss"] == pytest.approx(logged["train/value_loss"], rel=1e-5)
        assert means["entropy"] == pytest.approx(-logged["train/entropy_loss"], rel=1e-5)
        assert means["clip_fraction"] == pytest.approx(logged["train/clip_fraction"], abs=1e-6)
        last_epoch = np.mean([o["approx_kl"].item() for o in outs[-3:]])
        assert last_epoch == pytest.approx(logged["train/approx_kl"], rel=1e-3, abs=1e-6)
        assert outs[0]["approx_kl"].item() < 1e-6 < last_epoch


def their_order(ours):
    step, env = np.divmod(ours, N_ENVS)
    return env * N_STEPS + step


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_networks_start_as_stable_baselines3s_do():
    """Orthogonal weights with the same gains: equal singular values, zero biases, sigma 1."""
    torch.manual_seed(0)
    model = sb3_model(TORQUES)
    agent = make("ppo", OBS, TORQUES, **SMALL)
    theirs = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
    theirs += [*model.policy.mlp_extractor.value_net, model.policy.value_net]
    ours = [*agent.policy.mean, *agent.value]
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=True) if isinstance(a, torch.nn.Linear)]
    assert len(pairs) == 6
    for their, our in pairs:
        torch.testing.assert_close(torch.linalg.svdvals(our.weight), torch.linalg.svdvals(their.weight))
        assert not our.bias.any()
    assert not agent.policy.log_std.any()


def test_advantages_are_their_formula_also_where_a_life_is_lost():
    """A_t = sum_k (gamma lambda)^k delta_t+k, up to the step that ended the episode or the life, or to the end."""
    agent = make("ppo", OBS, ARMS, **SMALL)
    buffer, steps = agent.replay_buffer(), list(stepped(ARMS, seed=3))
    for step in steps:
        buffer.add(step)
    assert any((s.terminated & ~s.last).any() for s in steps) and any((s.last & ~s.terminated).any() for s in steps)
    advantage = buffer.judged(agent).advantage.reshape(N_STEPS, N_ENVS)

    def v(obs):
        with torch.no_grad():
            return agent.values(torch.from_numpy(obs)).numpy().astype(float)

    delta = np.array([s.reward + 0.99 * v(s.next_obs) * ~s.terminated - v(s.obs) for s in steps])
    for env in range(N_ENVS):
        for t in range(N_STEPS):
            expected = 0.0
            for k in range(N_STEPS - t):
                expected += (0.99 * 0.95) ** k * delta[t + k, env]
                if steps[t + k].terminated[env] or steps[t + k].last[env]:
                    break
            assert advantage[t, env].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_every_epoch_holds_every_step_once():
    space = spaces.Dict({"b": vectors(2), "a": vectors(3)})
    agent = make("ppo", space, TORQUES, **SMALL)
    buffer = agent.replay_buffer()
    for step in stepped(TORQUES, observation_space=space):
        buffer.add(step)
    due = buffer.num_updates(Clock(env_steps=N_STEPS * N_ENVS))
    batches = list(buffer.batches(due, np.random.default_rng(0), agent))
    assert [len(b.action) for b in batches] == [20, 20, 8] * 3
    epochs = [torch.cat([b.reward for b in batches[i : i + 3]]) for i in (0, 3, 6)]
    assert not torch.equal(epochs[0], epochs[1])
    assert all(torch.equal(epoch.sort().values, epochs[0].sort().values) for epoch in epochs)
    assert set(batches[0].obs) == {"a", "b"} and torch.isfinite(agent.update(batches[0])["policy_loss"])
    assert buffer.num_updates(Clock(env_steps=N_STEPS * N_ENVS + N_ENVS, updates=due)) == 0


def test_a_policy_draws_what_it_says():
    """Frequencies of drawn actions are exp(log pi); Gaussian draws have its mean and sigma; the mode is certain."""
    n = 50_000
    obs, gen = np.ones((n, 4), np.float32), torch.Generator().manual_seed(0)
    x = torch.from_numpy(obs)
    discrete, continuous = (make("ppo", OBS, actions, n_steps=100) for actions in (ARMS, TORQUES))
    discrete.policy.logits[-1].bias.data.copy_(torch.tensor([0.0, 1.0, -1.0]))
    continuous.policy.mean[-1].bias.data.copy_(torch.tensor([3.0, 0.0]))
    continuous.policy.log_std.data.copy_(torch.tensor([0.5, -1.0]))
    with torch.no_grad():
        p = [discrete.log_probs(x[:1], torch.tensor([a])).exp().item() for a in range(3)]
    drawn = discrete.act(obs, explore=True, gen=gen)
    assert sum(p) == pytest.approx(1) and np.bincount(drawn) / n == pytest.approx(p, abs=0.01)
    assert set(discrete.act(obs, explore=False, gen=gen)) == {1}
    drawn, mode = (continuous.act(obs, explore=e, gen=gen) for e in (True, False))
    assert drawn.std(0) == pytest.approx(np.exp([0.5, -1.0]), rel=0.02)
    assert drawn.mean(0) == pytest.approx(mode[0], abs=0.03) and not np.ptp(mode, axis=0).any()


class Told(gym.Env):
    """Notes the actions that reach it."""

    observation_space, action_space = OBS, TORQUES

    def __init__(self):
        self.told = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.told.append(action)
        return np.zeros(4, np.float32), 0.0, False, False, {}


def test_the_environment_gets_clipped_actions_and_the_replay_buffer_those_that_were_drawn():
    agent = make("ppo", OBS, TORQUES, n_steps=200, hidden=(8,))
    agent.policy.mean[-1].bias.data.fill_(0.9)
    env = Told()
    training = OnlineTraining(
        agent, agent.explorer(), [env], seed=0, schedule=None, evaluate=None, log=None, checkpoints=None, stop=None,
        report=None,
    )  # fmt: skip
    training._begin_pass()
    for _ in range(100):
        training.replay_buffer.add(training._step())
    kept = training.replay_buffer.rows.ring.rows(0, 100)["row"][:, 4:6]
    assert (kept > 1.5).any() and (kept < 1).any()
    np.testing.assert_array_equal(env.told, kept.clip(-1, 1))
    np.testing.assert_array_equal(training.slots[0].actions, env.told)  # what a resume replays
    agent.policy.mean[-1].bias.data.fill_(7.0)
    evaluated = build.greedy(agent)(np.zeros((1, 4)), np.random.default_rng(0))
    assert (evaluated == 1).all()  # nor does an evaluation leave the box
    assert executed(make("sac", OBS, TORQUES), kept) is kept


def test_unfit_spaces_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="no convolutions.*agent=dqn"):
        make("ppo", FRAMES, ARMS)
    with pytest.raises(ConfigError, match="or a Box.*wrap the environment"):
        make("ppo", OBS, spaces.MultiDiscrete([2, 3]))


RUN = ["method=vanilla", "agent=ppo", "agent.n_steps=6", "agent.n_envs=2", "agent.batch_size=5", "agent.n_epochs=2",
       "agent.hidden=[8]", "budget.env_steps=50", "eval.every=20", *SHORT]  # fmt: skip


@pytest.mark.parametrize(
    "env", [["env=classic/cart_pole"], ["env=mujoco/half_cheetah", "env.max_episode_steps=7"]], ids=lambda env: env[0]
)
def test_stopped_before_every_step(env, lives):  # noqa: F811
    """One run that is stopped at the top of each of its passes, so that every step is another life's."""
    config = from_node(compose([*RUN, *env]))
    whole = lives(config, "whole")
    assert whole.live()
    n_lives = 1
    while not (life := lives(config, "stopped", at=1)).live():
        n_lives += 1
    for one in (whole, life):
        (one.directory / "llm.jsonl").touch()
    assert n_lives == 26
    expected = whole.left()
    assert expected["state"]["clock"]["updates"] == 4 * 2 * 3 and expected["state"]["clock"]["episodes"] >= 2
    equal(life.left(), expected)


def test_a_budget_without_an_update_is_refused():
    with pytest.raises(ConfigError, match="ends before the first update; lower agent.n_steps"):
        make("ppo", OBS, ARMS, n_steps=501, n_envs=2, env_steps=1000)
