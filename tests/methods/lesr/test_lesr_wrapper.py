"""A function pair under an agent: what it sees, what it is paid, and that an empty pair changes no bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHORT, TINY, compose, only_run
from test_resume_in_process import equal, lives, uninterrupted  # noqa: F401 (lives is a fixture)

from llmrl import build
from llmrl.config import from_node
from llmrl.llm.sandbox import SandboxFailure

PENDULUM = [*TINY["td3"], "env=classic/pendulum", "env.max_episode_steps=12", "budget.env_steps=60", "eval.every=30",
            *SHORT]  # fmt: skip
IDENTITY = "def revise_state(s):\n    return s\n"
PAIR = """
import numpy as np

def revise_state(s):
    return np.concatenate([s, [s[0] * s[1], s[2] ** 2]])

def intrinsic_reward(updated_s):
    return updated_s[3] - 0.5 * updated_s[4]
"""


@pytest.fixture
def program(tmp_path):
    def written(code: str) -> Path:
        path = tmp_path / "pair.py"
        path.write_text(code)
        return path

    return written


def environment(path: Path, role: str, *overrides: str):
    args = [*PENDULUM, "wrapper=lesr", f"wrapper.artifact={path}", *overrides]
    return build.make_env(from_node(compose(args)), role)


def test_an_empty_pair_without_weight_is_plain_td3_bit_for_bit(llmrl_run, program, tmp_path):
    plain = llmrl_run(*PENDULUM, "compute.outputs=plain")
    path = program(IDENTITY)
    paired = llmrl_run(*PENDULUM, "wrapper=lesr", f"wrapper.artifact={path}", "wrapper.w=0", "compute.outputs=paired")
    assert (plain.code, paired.code) == (0, 0), paired.err
    a, b = only_run(tmp_path / "plain"), only_run(tmp_path / "paired")
    assert a.name != b.name  # another run, which comes to the same
    for name in ("agent.pt", "metrics.jsonl", "eval.jsonl"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize("form", ["state", "next_state", "potential"])
@pytest.mark.parametrize("reward", ["add", "replace"])
def test_the_agent_is_paid_as_the_form_says(program, form, reward):
    env = environment(program(PAIR), "train", f"wrapper.form={form}", f"wrapper.reward={reward}",
                      "wrapper.w=0.3")  # fmt: skip
    s, _ = env.reset(seed=3)
    assert s.shape == (5,) and s[3] == np.float32(s[0] * s[1])
    action = np.array([1.0], np.float32)
    after, paid, terminated, _, info = env.step(action)

    def g(x):
        return float(x[3] - 0.5 * x[4])

    bonus = 0.3 * {"state": g(s), "next_state": g(after), "potential": 0.99 * g(after) - g(s)}[form]
    assert not terminated
    assert info["reward_intrinsic"] == pytest.approx(bonus, abs=1e-5)
    assert paid == pytest.approx(bonus + (info["reward_env"] if reward == "add" else 0), abs=1e-5)
    env.close()


def test_an_evaluation_is_paid_the_tasks_own_reward(program):
    env, plain = environment(program(PAIR), "eval"), build.make_env(from_node(compose(PENDULUM)), "eval")
    env.reset(seed=1), plain.reset(seed=1)
    action = np.array([0.5], np.float32)
    assert env.step(action)[1] == plain.step(action)[1]
    env.close()


def test_the_source_alone_and_dropped_dimensions(program):
    path = program(PAIR)
    augmented, _ = environment(path, "eval").reset(seed=1)
    source, _ = environment(path, "eval", "wrapper.state=source").reset(seed=1)
    dropped, _ = environment(path, "eval", "wrapper.drop=[0,2]").reset(seed=1)
    assert np.array_equal(source, augmented[:3]) and np.array_equal(dropped, augmented[[1, 3, 4]])


def test_constants_of_the_augmented_state_are_recorded_and_logged(llmrl_run, program, tmp_path):
    done = llmrl_run(*PENDULUM, "wrapper=lesr", f"wrapper.artifact={program(PAIR)}", "wrapper.record=episode")
    assert done.code == 0, done.err
    facts = json.loads((only_run(tmp_path) / "result.json").read_text())["wrapper"]
    assert facts["features"] == 2 and len(facts["lipschitz"]) == 5 and min(facts["lipschitz"]) > 0
    assert {"gate", "rlimits"} <= set(facts["sandbox"])
    assert facts["mean_abs_intrinsic"] > 0 and facts["mean_abs_reward"] > 0 and facts["not_finite"] == 0


def test_an_interrupted_run_with_a_wrapper_ends_byte_for_byte_like_another(lives, program):  # noqa: F811
    """Stopped at the top of every third pass: within episodes, at their ends, and so on."""
    overrides = [*PENDULUM, "wrapper=lesr", f"wrapper.artifact={program(PAIR)}", "wrapper.record=episode"]
    config = from_node(compose([*overrides, "method=llm_explorer", "method.m=5", "agent.replay_size=24"]))
    expected = uninterrupted(lives, config)
    while not (life := lives(config, "stopped", at=3)).live():
        pass
    equal(life.left(), expected)
    slots = expected["state"]["slots"]
    assert slots[0]["env"]["recorder"]["episodes"] == 5


@pytest.mark.parametrize("code, told", [
    ("def revise_state(s)\n    return s\n", "syntax"),
    ("import os\ndef revise_state(s):\n    return s\n", "forbidden_import"),
    ("def revise_state(s):\n    return s[17]\n", "raised"),
])  # fmt: skip
def test_a_program_that_cannot_be_used_is_refused_before_training(llmrl_run, program, tmp_path, code, told):
    done = llmrl_run(*PENDULUM, "wrapper=lesr", f"wrapper.artifact={program(code)}")
    assert done.code == 2 and "wrapper.artifact" in done.err and told in done.err
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_program_that_fails_on_some_state_ends_the_run_by_name(llmrl_run, program, tmp_path):
    code = "def revise_state(s):\n    return s if s[2] < 0.3 else s[99:100][0]\n"
    done = llmrl_run(*PENDULUM, "wrapper=lesr", f"wrapper.artifact={program(code)}")
    assert done.code == 1 and SandboxFailure.__name__ in done.err and "raised" in done.err


def test_pictures_have_no_state_vector(llmrl_run, program):
    done = llmrl_run(*TINY["dqn"], "env=atari/freeway", "wrapper=lesr", f"wrapper.artifact={program(PAIR)}")
    assert done.code == 2 and "wrapper=lesr" in done.err and "state vector" in done.err


def test_nothing_is_there(llmrl_run):
    done = llmrl_run(*PENDULUM, "wrapper=lesr", "wrapper.artifact=nowhere.py")
    assert done.code == 2 and "nowhere.py" in done.err
