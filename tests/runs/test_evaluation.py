"""Evaluation: own cases, a cap for games that stall, no trace in training; and the streams that two methods share."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import CART_POLE, only_run

from llmrl.envs.history import History
from llmrl.runs import seeding
from llmrl.runs.evaluate import (
    Case,
    Scores,
    batch_of_one,
    cases,
    evaluate,
    evaluate_together,
    reached_in,
    uniform_policy,
    with_epsilon,
)
from llmrl.runs.files import read_jsonl
from llmrl.runs.stop import Stop


class Stalled(gym.Env):
    """An episode that never ends by itself."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.5, False, False, {}


class Clipped(Stalled):
    """What is learned from is not the environment's own reward."""

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {"reward_env": 40.0}


def test_a_stalled_episode_is_capped_and_said_to_be():
    env = Stalled()
    scores = evaluate(uniform_policy(env.action_space), env, cases(0, "eval", 3), 50, Stop())
    assert scores.lengths == [50, 50, 50] and scores.returns == [25.0, 25.0, 25.0]
    assert scores.row()["capped"] == 3


def test_an_episode_that_ends_is_not_capped():
    env = gym.make("CartPole-v1")
    scores = evaluate(uniform_policy(env.action_space), env, cases(0, "eval", 5), 500, Stop())
    assert scores.capped == 0
    assert scores.returns == [float(length) for length in scores.lengths]


def test_the_environments_own_reward_is_what_counts():
    scores = evaluate(uniform_policy(Clipped.action_space), Clipped(), cases(0, "eval", 1), 3, Stop())
    assert scores.returns == [120.0]


def test_measures_are_summed_over_each_episode():
    class Measured(Stalled):
        def step(self, action):
            obs, reward, *over = super().step(action)
            return obs, reward, *over[:2], {"measures": {"progress": 0.25}}

    env = Measured()
    scores = Scores.joined(
        [evaluate(uniform_policy(env.action_space), env, cases(0, "eval", n), 8, Stop()) for n in (1, 2)]
    )
    assert scores.row()["progress"] == [2.0, 2.0, 2.0]


def test_cases_differ_by_role_and_do_not_depend_on_how_many_there_are():
    assert cases(0, "eval", 10)[:3] == cases(0, "eval", 3)
    assert not {c.seed for c in cases(0, "eval", 20)} & {c.seed for c in cases(0, "selection", 20)}
    assert not {c.seed for c in cases(0, "eval", 20)} & {c.seed for c in cases(1, "eval", 20)}


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_an_evaluation_repeats_itself(name):
    """Whatever was played before, and whatever is evaluated in between."""
    env = gym.make(name)
    suite = cases(3, "eval", 4)
    first = evaluate(uniform_policy(env.action_space), env, suite, 60, Stop())
    evaluate(uniform_policy(env.action_space), env, cases(9, "eval", 3), 7, Stop())
    assert evaluate(uniform_policy(env.action_space), env, suite, 60, Stop()) == first


def test_epsilon_mixes_in_random_actions():
    rng = np.random.default_rng(0)
    space = gym.spaces.Discrete(10)

    def always_three(obs, rng):
        return np.array([3])

    assert with_epsilon(always_three, 0.0, space) is always_three
    mixed = with_epsilon(always_three, 0.5, space)
    share = np.mean([mixed(None, rng)[0] == 3 for _ in range(2000)])
    assert 0.5 < share < 0.6  # 0.5 + 0.5 / 10 expected
    rare = with_epsilon(always_three, 0.1, space)
    assert 0.88 < np.mean([rare(None, rng)[0] == 3 for _ in range(2000)]) < 0.94  # 0.91 expected


def test_two_methods_are_alike_until_the_first_refresh(llmrl_run, tmp_path):
    """They share all streams that they share: the first k episodes are the same, to the byte."""
    k = 3
    plain, asks = (["study=plain"], ["study=asks", "method=llm_explorer", f"method.k={k}"])
    for method in (plain, asks):
        assert llmrl_run(*CART_POLE, "budget.env_steps=150", "agent.epsilon_end=1", *method).code == 0
    rows = [read_jsonl(only_run(tmp_path / "outputs" / study) / "metrics.jsonl") for study in ("plain", "asks")]
    a, b = ([row for row in found if row["kind"] == "episode"] for found in rows)
    assert len(a) > k and a[:k] == b[:k]
    assert a != b
    first = [read_jsonl(only_run(tmp_path / "outputs" / study) / "eval.jsonl")[:2] for study in ("plain", "asks")]
    assert first[0] == first[1]  # the random policy's and the untrained network's evaluation


@pytest.mark.parametrize("agent", [CART_POLE, ["agent=fixed", "agent.probabilities=[0.3,0.7]", *CART_POLE[-7:]]])
def test_several_processes_play_the_same_evaluation(agent, process, tmp_path):
    """The same run by its id, and the same numbers; of a stochastic policy too."""
    runs = []
    for workers in (1, 2):
        done = process(*agent, f"eval.workers={workers}", "eval.episodes=5", f"compute.outputs=by{workers}").end()
        assert done.code == 0, done.err
        runs.append(only_run(tmp_path / f"by{workers}"))
    assert runs[0].name == runs[1].name
    assert (runs[0] / "eval.jsonl").read_bytes() == (runs[1] / "eval.jsonl").read_bytes()
    assert len(read_jsonl(runs[0] / "eval.jsonl")[-1]["returns"]) == 5


# --- by hand ----------------------------------------------------------------------------------------------------------


class Played(Stalled):
    """The episodes of `script`, by the option `n` of the case: (reward, terminated, truncated, info) steps."""

    script = (
        [(1.0, False, False, {"success": True}), (2.0, True, False, {"success": False})],
        [(1.0, False, False, {"success": False}), (1.0, False, True, {"success": True})],
        [(-1.0, False, False, {"success": False})] * 9,
        [(5.0, False, False, {"success": False, "reward_env": 0.5})] * 3 + [(5.0, True, False, {"success": False})],
    )

    def reset(self, *, seed=None, options=None):
        self.seeds = [*getattr(self, "seeds", []), seed]
        self.steps = iter(self.script[options["n"]])
        return super().reset(seed=seed)

    def step(self, action):
        return np.zeros(1, np.float32), *next(self.steps)


def test_a_goal_is_reached_at_any_step_and_every_count_is_right():
    env, suite = Played(), [Case(10 + n, {"n": n}) for n in range(4)]
    scores = evaluate(uniform_policy(env.action_space), env, suite, 4, Stop())
    assert scores.row() == {
        "return_mean": 1.875, "returns": [3.0, 2.0, -4.0, 6.5], "lengths": [2, 2, 4, 4], "capped": 1,
        "success": [True, True, False, False],
    }  # fmt: skip
    assert env.seeds == [10, 11, 12, 13]


class Lockstep:
    """The same episodes side by side."""

    def reset(self, cases):
        self.seeds, self.steps = [seed for seed, _ in cases], [iter(Played.script[o["n"]]) for _, o in cases]
        self.numbers = np.array([o["n"] for _, o in cases])
        return self.numbers[:, None]

    def step(self, actions):
        assert len(actions) == len(self.steps)
        rewards, terminated, truncated, infos = zip(*[next(steps) for steps in self.steps])
        success = np.array([info["success"] for info in infos])
        self.paid = np.array(rewards)
        return self.numbers[:, None], self.paid, np.array(terminated), np.array(truncated), {"success": success}

    def keep(self, mask):
        self.steps = [s for s, kept in zip(self.steps, mask) if kept]
        self.numbers = self.numbers[mask]
        return self.numbers[:, None]


def test_episodes_side_by_side_end_by_themselves_and_are_counted_apart():
    seen = []

    def act(obs, rng):
        seen.append(obs[:, 0].tolist())
        return np.zeros(len(obs), int)

    suite = [Case(10 + n, {"n": n}) for n in range(4)]
    scores = evaluate_together(act, Lockstep(), suite, 4, Stop())
    assert scores.row() == {
        "return_mean": 5.25, "returns": [3.0, 2.0, -4.0, 20.0], "lengths": [2, 2, 4, 4], "capped": 1,
        "success": [True, True, False, False],
    }  # fmt: skip
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 3], [2, 3], [2, 3]]
    assert evaluate_together(act, Lockstep(), suite, 3, Stop()).capped == 2
    assert evaluate_together(act, Lockstep(), suite[:2], 100, Stop()).lengths == [2, 2]


def test_parts_are_joined_in_their_order():
    parts = [Scores([1.0], [10], 1, {"success": [True]}), Scores([2.0, 3.0], [20, 30], 2, {"success": [False, True]})]
    whole = Scores.joined(parts)
    assert whole == Scores([1.0, 2.0, 3.0], [10, 20, 30], 3, {"success": [True, False, True]})
    assert whole.row()["return_mean"] == 2.0
    assert "success" not in Scores([1.0], [1]).row()


def test_a_rule_that_was_met_stays_met_and_each_rule_counts_for_itself():
    reached = {}
    for a, b in ((False, False), (True, False), (False, False)):
        reached = reached_in({"success_authors": a, "success_official": np.bool_(b), "other": True}, reached)
    assert reached == {"success_authors": True, "success_official": False} and reached_in({}, {}) == {}


def test_a_case_is_its_number_in_its_role():
    assert [case.seed for case in cases(5, "eval", 2)] == [seeding.integer(5, "eval", "eval", i) for i in (0, 1)]
    assert len({case.seed for case in cases(5, "eval", 50)}) == 50


def test_the_random_policy_fills_its_space():
    rng = np.random.default_rng(0)
    act = uniform_policy(gym.spaces.Discrete(3))
    assert {int(act(None, rng)[0]) for _ in range(60)} == {0, 1, 2} and act(None, rng).shape == (1,)
    box = gym.spaces.Box(np.array([-2, 5], np.float32), np.array([0, 6], np.float32))
    drawn = np.concatenate([uniform_policy(box)(None, rng) for _ in range(400)])
    assert drawn.dtype == np.float32 and drawn.mean(0) == pytest.approx([-1, 5.5], abs=0.1)
    assert drawn.min(0) == pytest.approx([-2, 5], abs=0.05) and drawn.max(0) == pytest.approx([0, 6], abs=0.05)


def test_the_policy_gets_one_observation_with_a_batch_dimension():
    assert batch_of_one({"a": np.zeros(2), "b": np.ones((3, 1))})["b"].shape == (1, 3, 1)
    assert batch_of_one(np.zeros(2)).shape == (1, 2) and batch_of_one(3).tolist() == [3]


def test_a_policy_with_history_sees_that_of_the_episodes_that_are_left():
    seen, draws = [], []

    def act(obs, rng):
        seen.append({name: part.tolist() for name, part in obs.items()})
        draws.append(rng.random())
        return np.arange(len(obs["length"])) + 5

    suite = [Case(10 + n, {"n": n}) for n in range(4)]
    evaluate_together(act, Lockstep(), suite, 3, Stop(), lambda obs: History(obs, 2))
    assert [s["length"] for s in seen] == [[1] * 4, [2] * 4, [2] * 2]
    assert seen[1]["action"] == [[5, 0], [6, 0], [7, 0], [8, 0]] and seen[2]["action"] == [[7, 0], [8, 0]]
    assert seen[1]["earned"] == [[0, 1], [0, 1], [0, -1], [0, 5]] and seen[2]["earned"] == [[-1, -2], [5, 10]]
    rng = seeding.generator(10, "act")
    assert draws == [rng.random() for _ in range(3)]


def test_what_a_policy_draws_follows_from_the_case_alone():
    drawn = []
    suite = [Case(10, {"n": 0}), Case(11, {"n": 1})]
    evaluate(lambda obs, rng: drawn.append(rng.random()) or np.array([0]), Played(), suite, 4, Stop())
    streams = [seeding.generator(seed, "act") for seed in (10, 11)]
    assert drawn == [rng.random() for rng in streams for _ in range(2)]
