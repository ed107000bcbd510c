"""api.register: methods, agents and suites of environments without files, in this process alone."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
from conftest import CART_POLE, ROOT, TINY, run_directories
from registering import forgotten  # noqa: F401 (a fixture)

from llmrl import api
from llmrl.agents import dqn
from llmrl.agents.fixed import NoReplay
from llmrl.checks import Count
from llmrl.conf_files import options
from llmrl.contracts.agent import Agent
from llmrl.contracts.env import Task
from llmrl.contracts.method import Method
from llmrl.explore.unchanged import Unchanged
from llmrl.runs.files import read_json

SHORT = ["env=classic/cart_pole", *CART_POLE[len(TINY["dqn"]) + 1 :]]
MINE = ["agent=mine", *CART_POLE[1:]]
LIKE_DQN = {"defaults": ["dqn", "_self_"], "stubborn": True}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten) -> Path:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Keys(dqn.Config):
    stubborn: bool


class Mine(dqn.DQN):
    """DQN that always takes the last action."""

    Config = Keys

    def act(self, obs, *, explore, gen):
        assert self.config.stubborn
        return np.full(len(obs), self.action_space.n - 1)


class Rule(Agent):
    """An agent with no more than the contract asks for."""

    @dataclass(frozen=True)
    class Config:
        side: int

    actions = "discrete"

    def act(self, obs, *, explore, gen):
        return np.full(len(obs), self.config.side)

    def update(self, batch):
        return {}

    def replay_buffer(self):
        return NoReplay()

    def explorer(self):
        return Unchanged()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Twice(Method):
    """Trains, and tells a number of its own."""

    @dataclass(frozen=True)
    class Config:
        times: Count

    def run(self, ctx):
        agent = ctx.agent()
        return ctx.train(agent, agent.explorer()) | {"twice": 2 * ctx.cfg.method.times}


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return np.array([self.at / self.length], np.float32), 1.0, self.at == self.length, False, {}


class Corridors:
    """A suite."""

    @dataclass(frozen=True)
    class Config:
        suite: str
        length: Count
        task: Task
        frames_per_step = 1

    @staticmethod
    def make(config, role, *, render=False):
        return gym.wrappers.TimeLimit(Corridor(config.length), 20)


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_an_agent_runs_is_found_and_is_loaded():
    api.register("agent", "mine", Mine, LIKE_DQN)
    ended = api.run(MINE)
    assert ended.status == "DONE" and "vanilla-mine" in str(ended.path)
    loaded = api.load(ended)
    assert isinstance(loaded.agent, Mine) and loaded.act(np.zeros(4, np.float32)) == 1
    assert read_json(ended.path / "config.json")["agent"]["learning_rate"] == 1e-4  # dqn's
    assert api.run(MINE).before and "mine" in options("agent")


def test_an_agent_needs_no_more_than_the_contract():
    api.register("agent", "rule", Rule, {"side": 1})
    ended = api.run(["agent=rule", *SHORT])
    assert ended.status == "DONE" and ended.result == {"env_steps": 60, "updates": 0, "episodes": 6}


def test_a_module_is_registered_as_a_class_is():
    module = ModuleType("in_a_script")
    module.Config, module.AGENT = Keys, Mine
    api.register("agent", "mine", module, LIKE_DQN)
    assert api.run(MINE).status == "DONE"


def test_a_method_runs_with_its_own_result():
    api.register("method", "lab/twice", Twice, {"times": 3})
    ended = api.run([*CART_POLE, "method=lab/twice", "method.times=4"])
    assert ended.status == "DONE" and ended.result["twice"] == 8
    with pytest.raises(api.ConfigError, match="method.times: input should be greater than 0"):
        api.run([*CART_POLE, "method=lab/twice", "method.times=0"])


def test_tasks_of_a_suite_are_environments():
    api.register("env", "lab/short", Corridors, {"length": 3})
    api.register("env", "lab/long", Corridors, {"length": 9, "task": {"name": "the long corridor"}})
    env = api.make_env("lab/long")
    assert env.unwrapped.length == 9 and api.make_env("lab/short", length=5).unwrapped.length == 5
    ended = api.run([*CART_POLE, "env=lab/long"])
    assert ended.status == "DONE"
    assert read_json(ended.path / "config.json")["env"]["task"]["name"] == "the long corridor"
    assert api.load(ended).env().unwrapped.length == 9


# --- it is validated as a file is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overrides", "text"), [
    (["agent=mime"], "agent: there is no `mime`. Did you mean `mine`?"),
    (["agent=mine", "agent.stubborn=7"], "agent.stubborn: input should be a valid boolean, not 7 (command line)"),
    (["agent=mine", "agent.stuborn=1"], "agent.stuborn: unknown key (command line). Did you mean `agent.stubborn`?"),
    (["agent=half"], "agent.hidden: missing. api.register has to give it."),
    (["agent=wrong"], "agent.side: input should be a valid integer, not 'left' (api.register)"),
    (["agent=mine", "env=lab/lonk"], "env: there is no `lab/lonk`. Did you mean `lab/long`?"),
    (["agent=td3", "env=lab/long"], "mine, "),  # agents that fit
])  # fmt: skip
def test_what_is_wrong_is_told_as_of_a_file(overrides, text, here):
    api.register("agent", "mine", Mine, LIKE_DQN)
    api.register("agent", "half", Mine, {"stubborn": True})
    api.register("agent", "wrong", Rule, {"side": "left"})
    api.register("env", "lab/long", Corridors, {"length": 9})
    with pytest.raises(api.ConfigError) as caught:
        api.run(["env=classic/cart_pole", "budget.env_steps=60", *overrides])
    assert text in str(caught.value) and list(here.iterdir()) == []


class NoUpdate(Rule):
    update = Agent.update


class NoConfig(Rule):
    Config = None


class NoMake:
    Config = Corridors.Config


@pytest.mark.parametrize(("arguments", "text"), [
    (("agnt", "x", Mine), "register: there is no kind `agnt`. Did you mean `agent`?"),
    (("agent", "a b", Mine), "'a b' is no name for agent=…"),
    (("env", "a/b/c", Corridors), "'a/b/c' is no name for env=…: letters, digits and _, such as `lab/corridor`"),
    (("agent", "x", Twice), "agent=x: Twice must derive from llmrl.contracts.agent.Agent"),
    (("method", "x", Mine), "method=x: Mine must derive from llmrl.contracts.method.Method"),
    (("agent", "x", 3), "agent=x: takes a class or a module, not 3"),
    (("agent", "x", NoUpdate), "NoUpdate lacks what llmrl.contracts.agent.Agent asks for: update"),
    (("agent", "x", NoConfig), "agent=x: NoConfig lacks Config, the frozen dataclass that checks its keys"),
    (("env", "x", NoMake), "env=x: NoMake lacks make(config, role, *, render=False)"),
    (("agent", "x", ModuleType("empty")), "empty must export its class: AGENT"),
    (("agent", "x", Mine, {"hidden": {1, 2}}), "agent=x: Value 'set' is not a supported primitive type"),
    (("agent", "dqn", Mine), "agent=dqn is taken, by "),
    (("env", "classic/mine", Corridors), "env=classic/mine: the suite `classic` is taken, by llmrl.envs.classic"),
])  # fmt: skip
def test_what_a_registration_lacks_is_told(arguments, text):
    with pytest.raises(api.ConfigError) as caught:
        api.register(*arguments, *([{}] if len(arguments) == 3 else []))
    assert text in str(caught.value)
    assert arguments[1] not in options("agent") or arguments[1] == "dqn"


def test_a_taken_name_is_an_error_unless_it_is_the_same_class():
    api.register("agent", "mine", Mine, LIKE_DQN)
    api.register("agent", "mine", Mine, LIKE_DQN | {"gamma": 0.5})
    api.register("agent", "mine", type("Mine", (Mine,), {"__module__": __name__}), LIKE_DQN | {"gamma": 0.6})
    with pytest.raises(api.ConfigError, match=r"agent=mine is taken, by test_api_register.Mine"):
        api.register("agent", "mine", Rule, {"side": 1})
    assert read_json(api.run(MINE).path / "config.json")["agent"]["gamma"] == 0.6
    api.register("env", "lab/long", Corridors, {"length": 9})
    other = type("Other", (Corridors,), {"__module__": __name__})
    with pytest.raises(api.ConfigError, match="the suite `lab` is taken, by test_api_register.Corridors"):
        api.register("env", "lab/other", other, {"length": 9})


# --- it lives in this process -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overrides", "needed_by"), [
    (["eval.workers=2"], "eval.workers=2 needs"),
    (["method=lesr", "method.search_agent=null"], "what this run builds on needs"),
    (["method=lesr/search"], "a search needs"),
    (["method=eureka/search", "env=mujoco/hopper"], "a search needs"),
])  # fmt: skip
def test_what_needs_processes_of_its_own_is_refused_before_anything_is_asked(overrides, needed_by, here):
    api.register("agent", "mine", Mine, LIKE_DQN)
    with pytest.raises(api.ConfigError) as caught:
        api.run([*MINE, *overrides])
    told = f"agent=mine: registered in this process alone (api.register), but {needed_by} processes of its own, which"
    assert told in str(caught.value)
    assert run_directories(here) == []


def test_another_process_says_that_it_does_not_know_it():
    api.register("agent", "mine", Mine, LIKE_DQN)
    path = api.run(MINE).path
    for command in (["eval", str(path)], ["run", "--from", str(path)]):
        if command[0] == "run":
            (path / "status.json").unlink()
        argv = [sys.executable, "-c", f"from llmrl.cli import main; raise SystemExit(main({command}))"]
        done = subprocess.run(argv, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})
        assert done.returncode == 2 and "there is no module llmrl.agents.mine for `mine`" in done.stderr
        assert "What a program registers with api.register is known in its own process alone." in done.stderr
