"""LESR's Lipschitz constants against slow ones written from the formulas, and what a pair pays where episodes end."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from llmrl.methods.lesr import lipschitz
from llmrl.methods.lesr.lipschitz import Recorder, constants, discounted_returns, scaled_constants
from llmrl.methods.lesr.wrapper import Config, LESRWrapper


def rough(n, seed=0, d=3):
    """States of different means and deviations, some of them equal, and rewards that jump."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * [0.3, 2, 50][:d] + [5, -1, 100][:d]
    x[:, 1] = x[:, 1].round(0)
    return x, np.tanh(x[:, 0] - 5) + 10 * (rng.random(n) < 0.1)


def slow_constants(x, r):
    found = []
    for column in x.T:
        order = sorted(range(len(x)), key=lambda t: column[t])  # equal ones in the order of time
        found.append(max(abs(r[b] - r[a]) / (abs(column[b] - column[a]) + 0.01) for a, b in zip(order, order[1:])))
    return found


def slow_scaled(x, r, deviation):
    found = []
    for column, unit in zip(x.T, deviation):
        order = sorted(range(len(x)), key=lambda t: column[t])
        u = [column[t] / unit for t in order]
        ratios = []
        for i, t in enumerate(order):
            far = next((j for j in range(len(u)) if u[j] >= u[i] + 0.1), None)
            if far is not None:
                ratios.append(abs(r[order[far]] - r[t]) / (u[far] - u[i] + 0.01))
        found.append(sorted(ratios)[int(0.95 * (len(ratios) - 1))])
    return found


@pytest.mark.parametrize("n", [2, 3, 60])
def test_constants_are_those_of_neighbours(n):
    x, r = rough(n)
    assert_allclose(constants(x, r), slow_constants(x, r))


@pytest.mark.parametrize("n", [5, 60, 200])
def test_scaled_constants_are_a_quantile_over_points_that_are_far_enough(n):
    x, r = rough(n)
    assert_allclose(scaled_constants(x, r, x.std(axis=0)), slow_scaled(x, r, x.std(axis=0)))


def test_a_dimension_without_points_that_are_far_enough_has_constant_0():
    x = np.array([[0.0, 0.0], [0.5, 50.0], [1.0, 100.0]])
    r = np.array([0.0, 1.0, 3.0])
    found = scaled_constants(x, r, np.array([100.0, 100.0]))
    assert_allclose(found, [0, 1 / 0.51])  # of the ratios 1 / 0.51 and 2 / 0.51 the lower: index int(0.95 * 1)
    apart = np.array([[0.0], [0.1]])  # MIN_GAP is enough
    assert_allclose(scaled_constants(apart, np.array([0.0, 1.0]), np.ones(1)), [1 / 0.11])


def test_the_discounted_return_is_of_all_that_follows():
    assert_allclose(discounted_returns(np.array([1.0, -2, 0, 4]), 0.5), [1 - 1 + 0 + 0.5, -2 + 0 + 1, 2, 4])


EPISODES = [rough(n, seed) for seed, n in enumerate((40, 7, 90, 1, 30))]


def recorded(*args, episodes=EPISODES, **options):
    recorder = Recorder(*args, **options)
    for x, r in episodes:
        for state, reward in zip(x, r):
            recorder.add(state, reward)
        recorder.end_episode()
    return recorder


def averaged(found):
    """C <- tau L + (1 - tau) C from 0, as if it had begun at the first."""
    average = np.zeros_like(found[0])
    for one in found:
        average = 0.005 * one + 0.995 * average
    return average / (1 - 0.995 ** len(found))


def test_the_unit_of_scaled_constants_is_the_deviation_of_all_steps_so_far():
    found = []
    for n in range(1, len(EPISODES) + 1):
        whole = np.concatenate([x for x, _ in EPISODES[:n]])
        found.append(scaled_constants(*EPISODES[n - 1], whole.std(axis=0)))
    assert_allclose(recorded("episode", True, "reward", 0.99).value(), averaged(found))
    moments = recorded("episode", True, "reward", 0.99).state_dict()["moments"]
    assert_allclose(moments, [whole.mean(0), np.square(whole - whole.mean(0)).sum(0)])


@pytest.mark.parametrize("scaled", [False, True])
def test_cumulative_constants_are_of_states_and_the_rewards_that_left_them(scaled):
    found = []
    for n in range(1, len(EPISODES) + 1):
        x, r = (np.concatenate(parts) for parts in zip(*EPISODES[:n]))
        if n != 4:  # a single step is less than 5 % more: the constants stay what they were
            latest = scaled_constants(x, r, x.std(axis=0)) if scaled else constants(x, r)
        found.append(latest)
    assert_allclose(recorded("cumulative", scaled, "reward", 0.99).value(), averaged(found))


def test_in_the_reservoir_states_stay_with_their_rewards(monkeypatch):
    monkeypatch.setattr(lipschitz, "RESERVOIR", 50)
    kept = recorded("cumulative", False, "reward", 0.99, seed=3).state_dict()
    assert kept["x"].shape == (50, 3) and kept["steps"] == 168
    everything = {tuple(x): r for xs, rs in EPISODES for x, r in zip(xs, rs)}
    assert [everything[tuple(x)] for x in kept["x"]] == kept["r"].tolist()
    first = {tuple(x) for x in np.concatenate([x for x, _ in EPISODES])[:50]}
    assert 8 < sum(tuple(x) in first for x in kept["x"]) < 22  # about 50 * 50 / 168
    other = recorded("cumulative", False, "reward", 0.99, seed=4).state_dict()
    assert not np.array_equal(other["x"], kept["x"])


@pytest.mark.parametrize("growth, again", [(4, False), (5, True)])
def test_cumulative_constants_are_computed_anew_for_five_percent_more(growth, again):
    x, r = rough(100)
    odd = np.full((growth, 3), 1e3), np.arange(growth) * 1e3
    before = recorded("cumulative", False, "reward", 0.99, episodes=[(x, r)]).state_dict()["latest"]
    after = recorded("cumulative", False, "reward", 0.99, episodes=[(x, r), odd]).state_dict()["latest"]
    assert np.array_equal(before, after) is not again


def test_an_episode_without_steps_changes_nothing():
    recorder = recorded("episode", False, "reward", 0.99)
    before = recorder.value()
    recorder.end_episode()
    assert_array_equal(recorder.value(), before)


# --- a pair under an agent ------------------------------------------------------------------------------------------

PAIR = """import numpy as np

def revise_state(s):
    return np.concatenate([s, [s[0] * s[1]]])

def intrinsic_reward(s):
    return 2 * s[0] + s[2]
"""
STATES = np.array([[1, 2], [2, 1], [4, -1], [3, 5]], np.float32)
G = [4, 6, 4, 21]  # 2 a + a b
OWN = [10.0, 20.0, 30.0]


class Scripted(gym.Env):
    """Visits STATES; its reward to learn from is a tenth of its own."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, end):
        self._end = end

    def reset(self, **kwargs):
        self._t = 0
        return STATES[0], {}

    def step(self, action):
        self._t += 1
        over = self._t == 3
        info = {"reward_env": OWN[self._t - 1], "kept": 7}
        terminated, truncated = over and self._end == "terminated", over and self._end == "truncated"
        return STATES[self._t], OWN[self._t - 1] / 10, terminated, truncated, info


def wrapped(directory: Path, end="terminated", code=PAIR, **changes):
    (directory / "pair.py").write_text(code)
    values = {"w": 0.5, "state": "augmented", "reward": "add", "form": "state", "record": None, "scaled": False}
    config = Config(**values | {"artifact": str(directory / "pair.py"), "drop": ()} | changes)
    return LESRWrapper(Scripted(end), config, "train", gamma=0.9)


@pytest.mark.parametrize(
    "form, end, paid",
    [
        ("state", "terminated", [4, 6, 4]),
        ("next_state", "terminated", [6, 4, 21]),
        ("potential", "terminated", [0.9 * 6 - 4, 0.9 * 4 - 6, -4]),  # nothing is worth anything after the end
        ("potential", "truncated", [0.9 * 6 - 4, 0.9 * 4 - 6, 0.9 * 21 - 4]),
    ],
)
def test_what_is_paid_until_the_end_of_an_episode(tmp_path, form, end, paid):
    env = wrapped(tmp_path, end, form=form, record="episode")
    for _ in range(2):  # the second episode begins anew
        env.reset(seed=0)
        for t in range(3):
            obs, reward, *ends, info = env.step(0)
            assert info["reward_intrinsic"] == pytest.approx(0.5 * paid[t])
            assert reward == pytest.approx(OWN[t] / 10 + 0.5 * paid[t])
            assert info["reward_env"] == OWN[t] and info["kept"] == 7
            assert obs.tolist() == [*STATES[t + 1], STATES[t + 1].prod()]
    assert ends == [end == "terminated", end == "truncated"]
    facts = env.facts()
    assert facts["mean_abs_reward"] == 20 and facts["not_finite"] == 0 and facts["features"] == 1
    assert facts["mean_abs_intrinsic"] == pytest.approx(0.5 * np.mean(np.abs(paid)))
    augmented = np.column_stack([STATES, STATES.prod(axis=1)])[:3]  # those that the rewards left
    assert_allclose(facts["lipschitz"], constants(augmented.astype(float), np.array(OWN)))
    env.close()


def test_discounted_constants_take_the_agents_discount(tmp_path):
    env = wrapped(tmp_path, record="discounted_return")
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    augmented = np.column_stack([STATES, STATES.prod(axis=1)])[:3].astype(float)
    returns = np.array([10 + 0.9 * (20 + 0.9 * 30), 20 + 0.9 * 30, 30])
    assert_allclose(env.facts()["lipschitz"], constants(augmented, returns))
    env.close()


@pytest.mark.parametrize("value", ["np.nan", "np.inf", "-np.inf", "1e300"])
def test_what_is_not_finite_counts_as_0_and_is_counted(tmp_path, value):
    """At the state that begins with 4 the feature and the reward are no numbers."""
    code = PAIR.replace("s[0] * s[1]]", f"{value} if s[0] == 4 else s[0] * s[1]]")
    if value == "1e300":  # too large for the state's 32 bits, not for the reward's 64
        value = "np.nan"
    code = code.replace("2 * s[0] + s[2]", f"{value} if s[0] == 4 else 2 * s[0] + s[2]")
    env = wrapped(tmp_path, code=code)
    env.reset(seed=0)
    seen = [env.step(0) for _ in range(3)]
    assert seen[1][0].tolist() == [4, -1, 0]
    assert [one[4]["reward_intrinsic"] for one in seen] == [2, 3, 0]
    assert env.facts()["not_finite"] == 2
    env.close()


def test_in_place_of_the_tasks_reward(tmp_path):
    env = wrapped(tmp_path, reward="replace", state="source", drop=(0,))
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == [2] and env.observation_space.shape == (1,)
    env.step(0), env.reset(seed=0)  # an episode that is not played to its end does not count
    assert [env.step(0)[1] for _ in range(3)] == [2, 3, 2]
    assert env.facts()["mean_abs_reward"] == 20 and "lipschitz" not in env.facts()
    env.close()
