"""Explorers: what they draw, when they ask the policy, and that they always draw the same amount."""

import numpy as np
import pytest
from gymnasium import spaces
from small_agents import make, vectors

from llmrl.contracts.explorer import Clock
from llmrl.explore.epsilon_greedy import EpsilonGreedy, exponential, linear
from llmrl.explore.gaussian import Gaussian

ARM = spaces.Box(np.array([0, -4], np.float32), np.array([1, 2], np.float32))


class Policy:
    """Always the same action; counts how often it was asked."""

    def __init__(self, action):
        self.action, self.asked = np.asarray(action), 0

    def __call__(self):
        self.asked += 1
        return self.action


def propose(explorer, policy, env_steps=0, rng=None, n_envs=1):
    rng = rng or np.random.default_rng(0)
    return explorer.propose(None, policy, Clock(env_steps=env_steps), [{}] * n_envs, rng)


# --- epsilon-greedy -------------------------------------------------------------------------------------------------


def test_schedules():
    straight = linear(1.0, 0.1, 100)
    assert [straight(t) for t in (0, 50, 100, 9999)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    paper = exponential(1.0, 0.1, 0.99999)
    assert paper(100_000) == pytest.approx(0.368, abs=1e-3) and paper(230_257) > 0.1 == paper(230_260)


def test_the_agents_explorer_uses_its_budget_and_schedule():
    dqn = make("dqn", vectors(2), spaces.Discrete(2), env_steps=1000, epsilon_fraction=0.5, random_steps=10)
    explorer, policy = dqn.explorer(), Policy([0])
    for env_steps, epsilon in ((0, 1.0), (9, 1.0), (250, 0.525), (500, 0.05), (900, 0.05)):
        propose(explorer, policy, env_steps)
        assert explorer.metrics()["epsilon"] == pytest.approx(epsilon)


def test_epsilon_is_the_share_of_random_actions_and_they_are_uniform():
    explorer, policy = EpsilonGreedy(5, epsilon=lambda t: 0.4), Policy(np.full(40_000, 7))
    rng = np.random.default_rng(0)
    actions = propose(explorer, policy, rng=rng, n_envs=40_000)
    assert np.mean(actions == 7) == pytest.approx(0.6, abs=0.01)
    assert np.bincount(actions[actions < 7], minlength=5) / (actions < 7).sum() == pytest.approx([0.2] * 5, abs=0.015)


def test_a_distribution_replaces_the_uniform_one():
    explorer, rng = EpsilonGreedy(4, epsilon=lambda t: 1.0), np.random.default_rng(0)
    explorer.distribution = np.array([0, 3, 1, 0])  # weights need no sum of one
    actions = propose(explorer, Policy([0]), rng=rng, n_envs=40_000)
    assert np.bincount(actions, minlength=4) / 40_000 == pytest.approx([0, 0.75, 0.25, 0], abs=0.01)


def test_the_policy_is_asked_only_when_its_action_is_wanted():
    for epsilon, asked in ((1.0, 0), (0.0, 1)):
        policy = Policy([1, 1, 1])
        propose(EpsilonGreedy(3, epsilon=lambda t, e=epsilon: e), policy, n_envs=3)
        assert policy.asked == asked
    policy = Policy(np.zeros((1, 2)))
    warm_up = Gaussian(ARM, sigma=0.1, random_steps=5)
    propose(warm_up, policy, env_steps=4)
    assert policy.asked == 0
    propose(warm_up, policy, env_steps=5)
    assert policy.asked == 1


# --- Gaussian -------------------------------------------------------------------------------------------------------


def test_noise_has_its_scale_and_bias_in_environment_units_and_is_clipped():
    explorer = Gaussian(spaces.Box(-10, 10, (2,)), sigma=np.array([0.5, 2.0]))
    explorer.bias = np.array([1.0, -3.0])
    actions = propose(explorer, Policy(np.zeros((20_000, 2))), n_envs=20_000)
    assert actions.mean(0) == pytest.approx([1.0, -3.0], abs=0.05)
    assert actions.std(0) == pytest.approx([0.5, 2], rel=0.02)
    explorer.bias = np.array([50.0, -50.0])
    assert propose(explorer, Policy(np.zeros((1, 2)))).tolist() == [[10, -10]]


def test_the_warm_up_is_uniform_over_the_action_space():
    explorer = Gaussian(ARM, sigma=0.1, random_steps=1)
    actions = propose(explorer, Policy(None), n_envs=20_000)
    assert actions.dtype == np.float32 and (actions >= ARM.low).all() and (actions <= ARM.high).all()
    assert actions.mean(0) == pytest.approx([0.5, -1], abs=0.05)
    assert np.quantile(actions, 0.25, axis=0) == pytest.approx([0.25, -2.5], abs=0.06)


@pytest.mark.parametrize("units, sigma", [("relative", [0.05, 0.3]), ("absolute", [0.1, 0.1])])
def test_td3s_explorer_knows_its_units(units, sigma):
    explorer = make("td3", vectors(2), ARM, noise_units=units, random_steps=0).explorer()
    actions = propose(explorer, Policy(np.tile([0.5, -1], (20_000, 1))), n_envs=20_000)
    assert actions.std(0) == pytest.approx(sigma, rel=0.03)


# --- both -----------------------------------------------------------------------------------------------------------


def variants():
    for epsilon in (0.0, 0.5, 1.0):
        yield EpsilonGreedy(3, epsilon=lambda t, e=epsilon: e), Policy([0, 0]), "discrete"
    told = EpsilonGreedy(3, epsilon=lambda t: 1.0)
    told.distribution = np.ones(3)
    yield told, Policy([0, 0]), "discrete"
    for random_steps, bias in ((0, None), (9, None), (0, np.ones(2))):
        explorer = Gaussian(ARM, sigma=0.1, random_steps=random_steps)
        explorer.bias = bias
        yield explorer, Policy(np.zeros((2, 2))), "continuous"


def test_every_call_draws_the_same_amount_whatever_it_does():
    """So that a change of the exploration shifts no other random number of a run."""
    after = {"discrete": set(), "continuous": set()}
    for explorer, policy, kind in variants():
        rng = np.random.default_rng(4)
        propose(explorer, policy, rng=rng, n_envs=2)
        after[kind].add(str(rng.bit_generator.state))
    assert [len(states) for states in after.values()] == [1, 1]


def test_state_is_restored():
    explorer = EpsilonGreedy(2, epsilon=lambda t: 0.25)
    explorer.distribution = np.array([0.9, 0.1])
    propose(explorer, Policy([0]))
    other = EpsilonGreedy(2, epsilon=lambda t: 0.25)
    other.load_state_dict(explorer.state_dict())
    assert other.distribution.tolist() == [0.9, 0.1] and other.metrics() == {"epsilon": 0.25}
    biased = Gaussian(ARM, sigma=0.1)
    biased.bias = np.array([0.1, 0.2])
    other = Gaussian(ARM, sigma=0.1)
    other.load_state_dict(biased.state_dict())
    assert other.bias.tolist() == [0.1, 0.2]


# --- by hand ----------------------------------------------------------------------------------------------------------


class Draws:
    """A generator whose numbers are given."""

    def __init__(self, random, normal=None):
        self.numbers, self.normal = np.array(random, float), np.array(normal)

    def random(self, shape):
        assert self.numbers.shape == tuple(np.atleast_1d(shape))
        return self.numbers

    def standard_normal(self, shape):
        assert self.normal.shape == shape
        return self.normal


def test_an_epsilon_greedy_step_by_hand():
    """Explores where the first number is below epsilon; the second one is its place in the cumulative distribution."""
    gate, draw = [0.0, 0.29, 0.3, 0.31], [0.0, 0.24, 0.5, 0.99]
    explorer = EpsilonGreedy(4, epsilon=lambda t: 0.3)
    policy = Policy([9, 9, 9, 9])
    assert propose(explorer, policy, rng=Draws([gate, draw]), n_envs=4).tolist() == [0, 0, 9, 9]
    explorer.distribution = np.array([1.0, 0.0, 3.0, 4.0])
    for draws, actions in (([0.0, 0.124, 0.125, 0.49], [0, 0, 2, 2]), ([0.5, 0.51, 0.9, 0.999], [3, 3, 3, 3])):
        assert propose(explorer, policy, rng=Draws([[0.0] * 4, draws]), n_envs=4).tolist() == actions
    explorer.distribution = None
    assert propose(explorer, policy, rng=Draws([[0.0] * 4, [0.25, 0.49, 0.5, 0.999]]), n_envs=4).tolist() == [
        1,
        1,
        2,
        3,
    ]
    never = EpsilonGreedy(4, epsilon=lambda t: 0.0)
    assert never.metrics() == {"epsilon": 1.0} and never.distribution is None
    assert propose(never, policy, rng=Draws([[0.0] * 4, draw]), n_envs=4).tolist() == [9] * 4
    assert never.metrics() == {"epsilon": 0.0}


def test_the_warm_up_ends_with_its_last_step_and_the_schedule_counts_from_the_start():
    explorer = EpsilonGreedy(2, epsilon=lambda t: t / 1000, random_steps=100)
    for env_steps, epsilon in ((0, 1.0), (99, 1.0), (100, 0.1), (101, 0.101)):
        propose(explorer, Policy([0]), env_steps)
        assert explorer.metrics()["epsilon"] == epsilon


def test_schedules_at_their_ends():
    assert [linear(0.8, 0.2, 4)(t) for t in (0, 1, 3, 4, 5)] == pytest.approx([0.8, 0.65, 0.35, 0.2, 0.2])
    assert [linear(0.8, 0.2, 0)(t) for t in (0, 1)] == pytest.approx([0.8, 0.2])
    assert [linear(0.2, 0.8, 2)(t) for t in (0, 1, 9)] == pytest.approx([0.2, 0.5, 0.8])
    assert [exponential(0.8, 0.1, 0.5)(t) for t in (0, 1, 2, 3, 4)] == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.1])
    for schedule, at_300 in (("linear", 0.8 + (0.2 - 0.8) * 0.5), ("exponential", 0.8 * 0.999**300)):
        dqn = make("dqn", vectors(2), spaces.Discrete(2), env_steps=1000, epsilon_schedule=schedule, epsilon_start=0.8,
                   epsilon_end=0.2, epsilon_fraction=0.6, epsilon_decay=0.999, random_steps=0)  # fmt: skip
        explorer = dqn.explorer()
        propose(explorer, Policy([0]), 300)
        assert explorer.metrics()["epsilon"] == pytest.approx(at_300)


def test_a_gaussian_step_by_hand():
    """clip(policy + sigma * noise + bias); warming up, low + u (high - low)."""
    explorer = Gaussian(ARM, sigma=np.array([0.1, 2.0]), random_steps=3)
    policy, rng = Policy([[0.5, -1.0]]), Draws([[0.25, 0.5]], [[2.0, -0.5]])
    assert propose(explorer, policy, 2, rng).tolist() == [[0.25, -1.0]]
    assert propose(explorer, policy, 3, rng)[0] == pytest.approx([0.7, -2.0])
    explorer.bias = np.array([-0.1, 0.5])
    assert propose(explorer, policy, 3, rng)[0] == pytest.approx([0.6, -1.5])
    explorer.bias = np.array([9.0, -9.0])
    assert propose(explorer, policy, 3, rng)[0] == pytest.approx([1.0, -4.0])
    assert policy.action.tolist() == [[0.5, -1.0]], "the policy's own array stays as it is"
    assert explorer.metrics() == {}
