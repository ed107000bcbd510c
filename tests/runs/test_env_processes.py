"""compute.env_processes: training environments in processes of their own. Each run is the one that it is without."""

import multiprocessing
import os
import signal
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from conftest import SHORT, run_directories, status
from test_stacked import CASES, SHORTLY, all_left, alone, here, left_by, numbers  # noqa: F401 (a fixture)

from llmrl import api
from llmrl.contracts.env import Wrapper
from llmrl.loops.env_process import env_process
from llmrl.runs import play
from llmrl.runs.files import read_json

APART = "compute.env_processes=true"
PPO = ["agent=ppo", "agent.hidden=[8]", "agent.n_steps=10", "agent.batch_size=10", "env=classic/cart_pole"]
LESR = [*CASES["td3"], "wrapper=lesr", "wrapper.artifact=program.py", "wrapper.record=episode"]
PROGRAM = """
import numpy as np

def revise_state(s):
    return np.append(s, s[0] * s[2])

def intrinsic_reward(s):
    return float(s[-1])
"""


@pytest.fixture(autouse=True)
def program(here):  # noqa: F811
    (here / "program.py").write_text(PROGRAM)


@pytest.mark.parametrize("overrides, seeds", [
    pytest.param([*CASES["dqn, 2 envs"], "compute.stack=true"], [0, 1], id="stacked, 2 envs each"),
    pytest.param([*PPO, "agent.n_envs=3"], [0], id="3 envs side by side"),
    pytest.param(LESR, [0], id="in a wrapper with metrics and facts"),
])  # fmt: skip
def test_runs_are_those_without(overrides, seeds):
    ends = api.sweep([*overrides, *SHORTLY, APART], seed=seeds)
    assert [ended.status for ended in ends] == ["DONE"] * len(seeds), ends
    left = {seed: left_by(ended.path) for seed, ended in zip(seeds, ends)}
    assert left == alone([one for one in overrides if one != "compute.stack=true"] + SHORTLY, seeds)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_with_its_whole_group(signum, process, llmrl_run, here):  # noqa: F811
    """As Slurm and a terminal do it: the environments' processes get the signal as well."""
    longer = [*LESR, *SHORT, "budget.env_steps=200", "eval.every=100", "compute.checkpoint_every_s=0"]
    run = process(*longer, APART, "compute.outputs=stopped")
    assert run.until(lambda: max(numbers(here / "stopped"), default=-1) >= 2), run.end().err
    for child in children(run.popen.pid):
        if signum == signal.SIGTERM:
            os.kill(child, signum)
    ended = run.send(signum)
    assert ended.code == (-signum if signum == signal.SIGKILL else 128 + signum), ended.err
    done = llmrl_run(*longer, APART, "compute.outputs=stopped")
    assert done.code == 0, done.err
    assert all_left(here / "stopped") == alone(longer, [0])


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def test_an_environment_whose_process_dies_fails_its_run_and_loses_nothing(process, llmrl_run, here):  # noqa: F811
    longer = [*CASES["td3"], *SHORT, "budget.env_steps=200", "eval.every=100", "compute.checkpoint_every_s=0"]
    run = process(*longer, APART, "compute.outputs=died")
    assert run.until(lambda: max(numbers(here / "died"), default=-1) >= 2), run.end().err
    for child in children(run.popen.pid):  # the environment's process, and multiprocessing's tracker
        os.kill(child, signal.SIGKILL)
    ended = run.end()
    assert ended.code == 1 and "the process of an environment has died, with exit code -9" in ended.err
    (directory,) = run_directories(here / "died")
    assert status(directory) == "FAILED"
    done = llmrl_run(*longer, APART, "compute.outputs=died")
    assert done.code == 0, done.err
    assert all_left(here / "died") == alone(longer, [0])


class Meeting(gym.Env):
    """Its step ends when as many others step."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def __init__(self, path, others: int, number: int) -> None:
        self.path, self.others, self.number = path, others, number

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {"seed": seed, "options": options}

    def step(self, action):
        (self.path / str(self.number)).touch()
        while len(list(self.path.iterdir())) <= self.others:
            pass
        if action == 1:
            raise KeyError("no such action")
        return np.full(1, self.number, np.float32), 1.0, False, False, {"number": self.number}


def test_steps_are_made_side_by_side(tmp_path):
    envs = [env_process(partial(Meeting, tmp_path, 1, number)) for number in (3, 5)]
    assert play.reset(envs[0], seed=2, options={"easy": True})[1] == {"seed": 2, "options": {"easy": True}}
    assert [outcome[-1]["number"] for outcome in play.step_all(envs, [0, 0])] == [3, 5]
    assert not any(isinstance(env, Wrapper) or hasattr(env, "state_dict") for env in envs)
    for env in envs:
        env.close()


def test_what_it_raises_is_raised_here_and_it_goes_on(tmp_path):
    env = env_process(partial(Meeting, tmp_path, 0, 0))
    with pytest.raises(KeyError, match="no such action"):
        env.step(1)
    assert env.step(0)[1] == 1.0
    env.close()


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def breaks():
    raise Unpicklable("this", "that")


def test_an_error_that_cannot_be_sent_is_sent_as_text():
    with pytest.raises(RuntimeError, match="Unpicklable: this and that"):
        env_process(breaks)


def test_the_key_leaves_the_id_alone():
    plain, apart = (api.run([*CASES["td3"], *SHORTLY, *more]) for more in ([], [APART]))
    assert plain.path == apart.path and read_json(apart.path / "status.json")["status"] == "DONE"
