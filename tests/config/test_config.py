"""Configuration: what a budget resolves to, and that one file and one yaml add a method, an agent or an environment."""

import json
import sys

import pytest
from conftest import CART_POLE, SHORT, Process, compose, only_run, status

import llmrl.methods
from llmrl.checks import ConfigError
from llmrl.config import from_node, method_of
from llmrl.runs.files import read_json, read_jsonl


def config(*overrides: str):
    return from_node(compose(list(overrides)))


def test_a_budget_scales_the_length_and_the_warm_up():
    whole, smoke = config("agent=td3"), config("agent=td3", "budget=smoke")
    assert whole.budget.env_steps == 1_000_000 and smoke.budget.env_steps == 4_000
    assert whole.agent.learning_starts == 25_000 and smoke.agent.learning_starts == 100
    assert whole.agent.random_steps == 25_000 and smoke.agent.random_steps == 100
    assert smoke.agent.batch_size == whole.agent.batch_size
    assert smoke.eval.every == smoke.budget.env_steps // smoke.budget.evaluations


def test_evaluations_are_spread_so_that_none_falls_close_to_the_end():
    chosen = config("budget.env_steps=1000", "budget.evaluations=3")
    assert chosen.eval.every == 334  # 334, 668 and the end, not 333, 666, 999 and the end


def test_what_is_said_on_the_command_line_wins():
    chosen = config("budget=smoke", "budget.env_steps=123", "eval.every=7", "eval.episodes=3")
    assert (chosen.budget.env_steps, chosen.eval.every, chosen.eval.episodes) == (123, 7, 3)


def test_a_warm_up_never_shrinks_to_nothing_but_nothing_stays_nothing():
    chosen = config("agent=td3", "budget.scale=0.000001", "agent.random_steps=0")
    assert (chosen.agent.learning_starts, chosen.agent.random_steps) == (1, 0)


def test_a_config_is_frozen_and_shares_nothing_with_the_node():
    node = compose(CART_POLE)
    chosen = from_node(node)
    node["agent"]["hidden"].append(3)
    assert chosen.agent.hidden == (16,)
    assert hash(chosen.agent) == hash(from_node(compose(CART_POLE)).agent)


METHOD = '''
"""Random behaviour, then the agent's own."""

from dataclasses import dataclass

from llmrl.checks import Count
from llmrl.contracts.method import Method


@dataclass(frozen=True)
class Config:
    greeting: str
    number: Count


class Polite(Method):
    def run(self, ctx):
        agent = ctx.agent()
        return ctx.train(agent, agent.explorer()) | {"greeting": ctx.cfg.method.greeting * ctx.cfg.method.number}


METHOD = Polite
'''

AGENT = '''
"""DQN that always prefers the last action."""

from dataclasses import dataclass

import numpy as np

from llmrl.agents import dqn


@dataclass(frozen=True)
class Config(dqn.Config):
    stubborn: bool


class Stubborn(dqn.DQN):
    def act(self, obs, *, explore, gen):
        return np.full(len(obs), self.action_space.n - 1)


AGENT = Stubborn
'''

ENV = '''
"""A corridor: walk to its end."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np

from llmrl.checks import Count
from llmrl.contracts.env import Task


@dataclass(frozen=True)
class Config:
    suite: str
    length: Count
    task: Task
    frames_per_step = 1


def make(config, role, *, render=False):
    return Corridor(config.length)


class Corridor(gym.Env):
    def __init__(self, length):
        self.length = length
        self.observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self._obs(), {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return self._obs(), 1.0, self.at == self.length, False, {}

    def _obs(self):
        return np.array([self.at / self.length], np.float32)
'''

YAML = {
    "method/polite.yaml": "greeting: hello  # what to say\nnumber: 2  # how often\n",
    "agent/stubborn.yaml": "defaults: [dqn, _self_]\nstubborn: true  # it is\n",
    "env/corridor/short.yaml": "defaults: [_task, _self_]\nsuite: corridor\nlength: 5\ntask:\n  name: a corridor\n",
}


def test_one_file_and_one_yaml_add_a_method_an_agent_and_an_environment(tmp_path):
    lab = tmp_path / "lab"
    for path, text in YAML.items():
        (lab / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
        (lab / "conf" / path).write_text(text)
    for path, text in {"methods/polite": METHOD, "agents/stubborn": AGENT, "envs/corridor": ENV}.items():
        (lab / path).parent.mkdir(parents=True, exist_ok=True)
        (lab / f"{path}.py").write_text(text)
    args = ["method=polite", "agent=stubborn", "env=corridor/short", "agent.learning_starts=10", "agent.random_steps=5",
            "agent.epsilon_end=0", "budget.env_steps=60", *SHORT]  # fmt: skip
    variables = {"LLMRL_PATH": str(lab)}
    done = Process(args, tmp_path, variables).end()
    assert done.code == 0, done.err
    directory = only_run(tmp_path)
    assert directory.relative_to(tmp_path).parts[2:4] == ("polite-stubborn", "corridor-short")
    assert status(directory) == "DONE"
    assert read_json(directory / "result.json")["greeting"] == "hellohello"
    greedy = [row for row in read_jsonl(directory / "eval.jsonl") if row["policy"] == "greedy"]
    assert all(row["lengths"] == [5, 5] for row in greedy)
    wrong = Process([*args, "method.number=0", "agent.stubbornn=1"], tmp_path, variables).end()
    assert wrong.code == 2 and "agent.stubbornn" in wrong.err and "`agent.stubborn`" in wrong.err


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("class Polite:\n    pass", "must export its class: METHOD = <a class that derives from llmrl"),
        ("class Polite:\n    pass\n\n\nMETHOD = Polite", "must export its class: METHOD"),
        ("METHOD = 3", "must export its class: METHOD"),
        ("from llmrl.contracts.method import Method\n\n\nclass Polite(Method):\n    pass\n\n\nMETHOD = Polite",
         "Polite lacks what llmrl.contracts.method.Method asks for: run"),
    ],
)  # fmt: skip
def test_a_method_that_lacks_something_is_told_what(method, told, tmp_path, monkeypatch):
    (tmp_path / "polite.py").write_text(f"Config = dict\n\n\n{method}\n")
    monkeypatch.setattr(llmrl.methods, "__path__", [*llmrl.methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llmrl.methods.polite", raising=False)
    with pytest.raises(ConfigError) as caught:
        method_of("polite")
    assert told in str(caught.value) and "polite.py" in str(caught.value)
    sys.modules.pop("llmrl.methods.polite")


def test_the_node_is_kept_as_it_was_composed(llmrl_run, tmp_path):
    """config.json is enough to build the same run again, without Hydra."""
    assert llmrl_run(*CART_POLE).code == 0
    kept = json.loads((only_run(tmp_path) / "config.json").read_text())
    assert from_node(kept) == from_node(compose(CART_POLE))


@pytest.mark.parametrize(
    ("method", "agent", "suite"),
    [("kalm", "bc", "clevr_robot"), ("kalm/data", "fixed", "clevr_robot"), ("explorllm", "td3", "pick_place"),
     ("explorllm/words", "td3", "pick_place")],
)  # fmt: skip
def test_a_method_says_which_environments_it_takes(method, agent, suite):
    more = ["budget.updates=10"] if method == "kalm" else ["method.run=x"] if method.endswith("words") else []
    with pytest.raises(ConfigError, match=rf"method={method} does not take env=mujoco/hopper. It takes: {suite}/"):
        from_node(compose([f"method={method}", f"agent={agent}", "env=mujoco/hopper", *more]))
