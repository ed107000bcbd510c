"""Evaluation: own cases, a cap for games that stall, no trace in training; and the streams that two methods share."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import CART_POLE, only_run

from llmrl.runs.evaluate import cases, evaluate, uniform_policy, with_epsilon
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
