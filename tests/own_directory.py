"""The fixture `own`: a user's directory with an environment, an agent, a table and published numbers, in LLMRL_PATH."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SHORT

import llmrl.agents
import llmrl.envs
import llmrl.methods
from llmrl.conf_files import extend_packages, extra_roots
from llmrl.report.published import COLUMNS

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


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self._obs(), {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return self._obs(), float(self.at), self.at == self.length, False, {}

    def _obs(self):
        return np.array([self.at / self.length, self.np_random.random()], np.float32)


def make(config, role, *, render=False):
    return gym.wrappers.TimeLimit(Corridor(config.length), 20)
'''
AGENT = '''
"""DQN that always prefers the last action."""

from dataclasses import dataclass

import numpy as np

from llmrl.agents import dqn


@dataclass(frozen=True)
class Config(dqn.Config):
    stubborn: bool


class Mine(dqn.DQN):
    """The same, but for `act`."""

    def act(self, obs, *, explore, gen):
        return np.full(len(obs), self.action_space.n - 1)


AGENT = Mine
'''
WRAPPER = '''
"""Pays a bonus, and lets the agent see it."""

from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import numpy as np

from llmrl.checks import PathText
from llmrl.contracts.env import Wrapper


@dataclass(frozen=True)
class Config:
    file: PathText = field(metadata={"identity": "content", "key": "wrapper.file", "file": "bonus.txt"})
    times: float


class Bonus(Wrapper):
    def __init__(self, env, config, role, *, gamma):
        super().__init__(env, config, role, gamma=gamma)
        self.bonus, self.paid = float(Path(config.file).read_text()) * config.times * (role == "train"), 0.0
        self.observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return np.append(obs, np.float32(0)), info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.paid += self.bonus
        return np.append(obs, np.float32(0)), reward + self.bonus, terminated, truncated, info | {"reward_env": reward}

    def facts(self):
        return {"paid": self.paid, "words": ["bonus"]}

    def state_dict(self):
        return {"paid": self.paid}

    def load_state_dict(self, state):
        self.paid = state["paid"]


WRAPPER = Bonus
'''
ENV_YAML = """
defaults: [/env/_task@task, _self_]
suite: own_corridor
length: 5
task:
  name: a corridor
  description: A corridor of five steps.
  actions: [back, forward]
  reward: The place.
  end: At its end.
  goal: Its end.
  observation: ["the place, from 0 to 1 (corridor)", "noise (none)"]
"""
TINY = ["agent=own_agent", "env=own/corridor", "agent.hidden=[16]", "agent.batch_size=8", "agent.learning_starts=10",
        "agent.random_steps=5", "budget.env_steps=60", "eval.every=20", *SHORT]  # fmt: skip
TABLE = {
    "title": "Ours", "base": TINY, "rows": {"Corridor": []}, "columns": {"Mine": []}, "seeds": [0], "score": "last",
    "metric": "return", "published": "1",
}  # fmt: skip
NUMBER = {
    "paper": "own",
    "table": "1",
    "row": "Corridor",
    "column": "Mine",
    "value": "14.5",
    "seen": "verbatim",
    "source": "own, Table 1",
}
FILES = {
    "envs/own_corridor.py": ENV,
    "agents/own_agent.py": AGENT,
    "conf/agent/own_agent.yaml": "defaults: [dqn, _self_]\nstubborn: true  # it is\n",
    "conf/env/own/corridor.yaml": ENV_YAML,
    "methods/own_bonus/wrapper.py": WRAPPER,
    "conf/wrapper/own_bonus.yaml": "# A bonus.\nfile: ???  # holds a number\ntimes: 2.0  # of it\n",
    "conf/table/own/table.yaml": json.dumps(TABLE),
    "published/own.csv": f"{','.join(COLUMNS)}\n{','.join(NUMBER.get(name, '') for name in COLUMNS)}\n".replace(
        "own, Table 1", '"own, Table 1"'
    ),
}


def make_directory(root: Path) -> Path:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(name="own")
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Such a directory, as if LLMRL_PATH had named it when llmrl was imported."""
    packages = llmrl.agents, llmrl.envs, llmrl.methods
    before = [list(package.__path__) for package in packages]
    root = make_directory(tmp_path / "lab")
    monkeypatch.setenv("LLMRL_PATH", str(root))
    extra_roots.cache_clear()
    extend_packages()
    yield root
    extra_roots.cache_clear()
    for package, paths in zip(packages, before):
        package.__path__[:] = paths
    for name in sorted((n for n in sys.modules if n.startswith("llmrl.") and ".own_" in n), reverse=True):
        del sys.modules[name]
        package, _, module = name.rpartition(".")
        delattr(sys.modules[package], module)
