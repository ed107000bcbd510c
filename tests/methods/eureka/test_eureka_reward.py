"""Eureka's reward programs: what is rejected before any training, and what an agent is paid, shown and judged by."""

import json
import math

import numpy as np
import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import compose, only_run
from test_resume_in_process import equal, lives, uninterrupted  # noqa: F401 (the fixture `lives`)

from llmrl import build
from llmrl.checks import ConfigError
from llmrl.config import from_node
from llmrl.llm.program_text import Rejected
from llmrl.llm.sandbox import SandboxFailure
from llmrl.methods.eureka.program import arguments, extract, validate
from llmrl.methods.search.steps import Steps

CHEETAH = ["env=mujoco/half_cheetah", "agent=td3"]
TINY = [*CHEETAH, "env.max_episode_steps=10", "agent.hidden=[8]", "agent.batch_size=4", "agent.learning_starts=8",
        "agent.random_steps=8", "budget.env_steps=40", "eval.every=20", "eval.episodes=2", "eval.max_steps=10",
        "log.every=5", "log.progress=false"]  # fmt: skip
GOOD = """
import numpy as np

def compute_reward(state, action, next_state):
    forward = next_state[8]
    effort = -0.1 * np.sum(np.square(action))
    return 2.0 * forward + effort, {"forward": forward, "effort": effort}
"""
STEPS = Steps(
    *(np.random.default_rng(i).normal(size=shape) for i, shape in enumerate([(60, 17), (60, 6), (60, 17), 60]))
)


@pytest.fixture
def program(tmp_path):
    """code -> its file"""

    def write(code: str = GOOD):
        (tmp_path / "own.py").write_text(code)
        return tmp_path / "own.py"

    return write


def environment(role, *overrides):
    return build.make_env(from_node(compose([*CHEETAH, "wrapper=eureka", *overrides])), role)


def paid_by(program, code=GOOD, role="train"):
    return environment(role, f"wrapper.program={program(code)}", "wrapper.reward=program")


# --- checks -----------------------------------------------------------------------------------------------------------


def test_a_program_comes_out_of_a_reply_with_its_components():
    code = extract(f"Let me think.\n```python\n{GOOD}```\nThis rewards speed.")
    assert validate(code, STEPS).components == ["effort", "forward"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unknown_argument", "def compute_reward(state, goal):\n    return 1.0, {'a': 1.0}\n"),
        ("unknown_argument", "def compute_reward(*step):\n    return 1.0, {'a': 1.0}\n"),
        ("not_a_pair", "def compute_reward(state):\n    return state[0]\n"),
        ("not_a_pair", "def compute_reward(state):\n    return state[0], [state[0]]\n"),
        ("no_components", "def compute_reward(state):\n    return state[0], {}\n"),
        ("component_name", "def compute_reward(state):\n    return state[0], {1: state[0]}\n"),
        ("component_name", "def compute_reward(state):\n    return state[0], {'<b>': state[0]}\n"),
        ("component_name", "def compute_reward(state):\n    return 0.0, {str(i) * 3: 0.0 for i in range(21)}\n"),
        ("components_change", "def compute_reward(state):\n    return 0.0, {'up' if state[0] > 0 else 'down': 0.0}\n"),
        ("not_scalar", "def compute_reward(state):\n    return state, {'a': state[0]}\n"),
        ("not_scalar", "def compute_reward(state):\n    return state[0], {'a': state}\n"),
        ("input_mutated", "def compute_reward(state):\n    state[0] = 0.0\n    return 0.0, {'a': 0.0}\n"),
        ("not_finite", "import numpy as np\ndef compute_reward(state):\n    return np.log(state[0]), {'a': 0.0}\n"),
        ("not_finite", "import numpy as np\ndef compute_reward(state):\n    return 0.0, {'a': np.log(state[0])}\n"),
        ("raised", "def compute_reward(state):\n    return state[17], {'a': 0.0}\n"),
        ("syntax", "def compute_reward(state:\n    return 0.0, {'a': 0.0}\n"),
        ("missing_function", "def reward(state):\n    return 0.0, {'a': 0.0}\n"),
        ("reserved_name", "def step(x):\n    return x\ndef compute_reward(state):\n    return 0.0, {'a': step(0.0)}\n"),
        ("forbidden_import", "import os\ndef compute_reward(state):\n    return 0.0, {'a': os.getpid()}\n"),
    ],
)
def test_each_rejection_has_its_name(name, code):
    with pytest.raises(Rejected) as rejected:
        validate(extract(f"```python\n{code}```"), STEPS)
    assert rejected.value.name == name


def test_a_parameter_with_a_default_is_a_constant_of_the_program():
    code = "def compute_reward(next_state, temperature=0.5):\n    return next_state[0] / temperature, {'a': 0.0}\n"
    assert arguments(code) == ["next_state"] and validate(code, STEPS).components == ["a"]


# --- what an agent is paid --------------------------------------------------------------------------------------------


def test_the_agent_is_paid_what_the_program_says_of_the_step(program):
    env = paid_by(program)
    state, _ = env.reset(seed=3)
    for _ in range(3):
        action = env.action_space.sample()
        state, paid, _, _, info = env.step(action)
        assert paid == pytest.approx(2 * state[8] - 0.1 * np.square(action).sum(), rel=1e-6)
        assert info["reward_env"] == pytest.approx(info["reward_forward"] + info["reward_ctrl"])
    metrics = env.metrics()
    assert list(metrics) == ["component/effort", "component/forward", "reward_human", "reward_learned", "reward_sparse"]
    assert metrics["reward_learned"] == pytest.approx(2 * metrics["component/forward"] + metrics["component/effort"])
    assert env.metrics() == {}  # begins anew
    env.close()


@pytest.mark.parametrize("reward", ["human", "sparse"])
def test_the_baselines_are_paid_the_tasks_own_reward_and_the_velocity_alone(reward):
    env = environment("train", f"wrapper.reward={reward}")
    env.reset(seed=3)
    _, paid, _, _, info = env.step(np.full(6, 0.5, np.float32))
    assert paid == pytest.approx(info["x_velocity"] if reward == "sparse" else info["reward_env"])
    assert info["reward_env"] != pytest.approx(info["x_velocity"])
    env.close()


def test_where_a_task_has_a_goal_the_sparse_reward_is_success():
    env = build.make_env(
        from_node(compose(["env=robotics/fetch_reach", "agent=td3", "wrapper=eureka", "wrapper.reward=sparse"])),
        "train",
    )
    state, _ = env.reset(seed=0)
    paid = []
    for _ in range(50):
        action = np.zeros(4, np.float32)
        action[:3] = np.clip(20 * (state[10:13] - state[:3]), -1, 1)  # to the goal
        state, reward, _, truncated, info = env.step(action)
        paid.append(reward)
        assert reward == float(info["success_official"]) and info["reward_env"] < 0
    assert truncated and set(paid) == {0.0, 1.0} and "measures" not in info
    env.close()


def test_an_evaluation_measures_the_way_forward_and_runs_no_program(program):
    broken = "def compute_reward(state):\n    return state[99], {'a': 0.0}\n"
    env = paid_by(program, broken, "eval")
    env.reset(seed=0)
    start, total = float(env.unwrapped.data.qpos[0]), 0.0
    for _ in range(20):
        total += env.step(env.action_space.sample())[-1]["measures"]["progress"]
    assert total == pytest.approx(float(env.unwrapped.data.qpos[0]) - start, abs=1e-6)
    env.close()


def test_a_reward_that_is_no_number_in_training_counts_as_0(program):
    code = "import numpy as np\ndef compute_reward(state):\n    return np.log(state[0]), {'log': np.log(state[0])}\n"
    env = paid_by(program, code)
    env.reset(seed=0)
    paid = [env.step(env.action_space.sample())[1] for _ in range(40)]
    assert all(math.isfinite(reward) for reward in paid) and env.facts()["not_finite"] == paid.count(0.0) > 0
    env.close()


def test_a_window_whose_rewards_are_no_numbers_has_its_components_all_the_same(program):
    code = "import numpy as np\ndef compute_reward(state):\n    return np.nan, {'one': 1.0, 'no': np.inf}\n"
    env = paid_by(program, code)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    metrics = env.metrics()
    assert (metrics["component/one"], metrics["component/no"], metrics["reward_learned"]) == (1.0, 0.0, 0.0)
    env.close()


def test_components_that_change_their_names_in_training_end_it(program):
    code = "def compute_reward(next_state):\n    return 0.0, {'up' if next_state[1] != 5 else 'down': 0.0}\n"
    env = paid_by(program, code)
    state, _ = env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(SandboxFailure, match="other names than at first"):
        env._program.step(np.zeros(17), np.zeros(6), np.full(17, 5.0))
    env.close()


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["wrapper.reward=program"], "program: a file with compute_reward"),
        (["wrapper.reward=program", "wrapper.program=/nowhere.py"], "/nowhere.py does not exist"),
        (["env=classic/pendulum"], "neither of success nor of a velocity forward"),
        (["env=classic/cart_pole", "agent=dqn"], "neither of success nor of a velocity forward"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_trained(llmrl_run, tmp_path, overrides, text):
    done = llmrl_run(*CHEETAH, "wrapper=eureka", *overrides, "budget.env_steps=40")
    assert done.code == 2 and text in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_program_that_does_not_start_is_named(program):
    with pytest.raises(ConfigError, match="wrapper.program: .*own.py: missing_function"):
        paid_by(program, "def reward(state):\n    return 0.0\n")


# --- a run ------------------------------------------------------------------------------------------------------------


def test_the_human_reward_in_the_wrapper_is_plain_training_bit_for_bit(llmrl_run, tmp_path):
    plain = llmrl_run(*TINY, "compute.outputs=plain")
    human = llmrl_run(*TINY, "wrapper=eureka", "compute.outputs=human")
    assert (plain.code, human.code) == (0, 0), human.err
    a, b = only_run(tmp_path / "plain"), only_run(tmp_path / "human")
    assert (a / "agent.pt").read_bytes() == (b / "agent.pt").read_bytes()
    rows = [json.loads(line) for line in (b / "eval.jsonl").read_text().splitlines()]
    assert all(len(row["progress"]) == len(row["returns"]) for row in rows)


def test_a_found_reward_trains_any_agent_and_is_kept_with_the_run(llmrl_run, llmrl, program, tmp_path):
    given = [f"wrapper.program={program()}", "wrapper.reward=program"]
    done = llmrl_run(*TINY, "wrapper=eureka", *given, "agent=sac")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("component/forward" in row for row in rows)
    assert json.loads((run / "result.json").read_text())["wrapper"]["components"] == ["effort", "forward"]
    (tmp_path / "own.py").unlink()
    played = llmrl("eval", str(run), "--episodes", "1")
    assert played.code == 0, played.err


def test_an_interrupted_run_ends_byte_for_byte_like_another(lives, program):  # noqa: F811
    given = ["wrapper=eureka", f"wrapper.program={program()}", "wrapper.reward=program", "agent.replay_size=24"]
    config = from_node(compose([*TINY, *given]))
    expected = uninterrupted(lives, config)
    while not (life := lives(config, "stopped", at=3)).live():
        pass
    equal(life.left(), expected)
