"""What all suites share: the task that an LLM is told of, and the helpers that make an environment.

A suite is one module with `Config` and `make(config, role, *, render=False) -> gym.Env`; its tasks are
`conf/env/<suite>/*.yaml`.

The contract of every environment: `reset(seed=s)` starts an episode that s and the actions determine, whatever was
played before (a resume resets with the seed and replays the actions). The reward returned is the one to learn from;
where that is not the environment's own, `info["reward_env"]` holds the own one. `info["life_lost"]` is True on a step
whose lost life is terminal for learning although the episode goes on. Arrays that it returned it may change later, and
the action that it is given too: whoever plays it (runs/play.py) copies both.
"""

import warnings
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Literal, Protocol

import gymnasium as gym
import numpy as np

from llmrl.checks import ConfigError, NonNegative, NonNegativeInt, PathText

PROGRAM = "transform.py"  # the function pair in the directory of an artifact, or of a run that its method gave one
Role = Literal["train", "eval"]  # what holds for learning only (clipped rewards, lost lives) is left out of evaluation


@dataclass(frozen=True)
class Task:
    """All that an LLM is told of a task. The text is there as a whole, or not yet at all."""

    name: str  # a phrase that only names the environment
    description: str | None  # what the agent is and what surrounds it
    actions: tuple[str, ...] | None  # position = action index, or dimension of the action (then with its range)
    reward: str | None
    end: str | None  # when an episode ends
    goal: str | None
    # one line per dimension of the observation: its meaning and, in brackets, its unit; only state tasks have it
    observation: tuple[str, ...] | None = field(metadata={"neutral": None})

    def __post_init__(self) -> None:
        text = {key: getattr(self, key) for key in ("description", "actions", "reward", "end", "goal")}
        missing = [key for key, value in text.items() if value is None]
        if missing and self.has_text:
            raise ValueError(f"task: {', '.join(missing)} not given; write all of {', '.join(text)}, or none of them")

    @property
    def has_text(self) -> bool:
        """Whether there is more to tell than the name."""
        return any(x is not None for x in (self.description, self.actions, self.reward, self.end, self.goal))


@dataclass(frozen=True)
class Transform:
    """A function pair (LESR) under an agent; conf/env/_transform.yaml says what each key means."""

    artifact: PathText | None = field(
        metadata={"identity": "content", "key": "env.transform.artifact", "file": PROGRAM}
    )
    w: NonNegative
    state: Literal["augmented", "source"]
    reward: Literal["add", "replace"]
    form: Literal["state", "next_state", "potential"]
    record: Literal["episode", "cumulative", "discounted_return"] | None
    scaled: bool
    drop: tuple[NonNegativeInt, ...]


class EnvConfig(Protocol):
    """What the Config of every suite has."""

    @property
    def suite(self) -> str: ...  # names the module

    @property
    def task(self) -> Task: ...

    @property
    def frames_per_step(self) -> int: ...  # frames of the game per env_step, 1 where there are no frames


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Import `module`. Raises ConfigError, naming the `package` to install for `purpose`, where it cannot be found."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{purpose} needs {package}, which is not installed: pip install {package!r}") from error


def make_gymnasium(env_id: str, *, max_episode_steps: int, render: bool, **options: bool) -> gym.Env:
    """A registered environment, truncated after `max_episode_steps`; `render`: as rgb arrays; `options`: what
    it takes itself.

    Gymnasium's warning that a version is out of date is silenced: versions are chosen on purpose here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(
            env_id,
            max_episode_steps=max_episode_steps,
            render_mode="rgb_array" if render else None,
            disable_env_checker=True,  # it checks every step; tests/test_envs.py does it once
            **options,
        )


def check_spaces(env: gym.Env, name: str) -> None:
    """Raises ConfigError, naming the environment, where its spaces are none that an agent here can see or act in."""
    seen, acts = env.observation_space, env.action_space
    parts = list(seen.spaces.values()) if isinstance(seen, gym.spaces.Dict) else [seen]
    if not parts or not all(isinstance(part, gym.spaces.Box) and _sized(part) for part in parts):
        raise ConfigError(
            f"{name}: observations must be a Box, or a Dict of Boxes, of at least one dimension and one number, whose "
            f"bounds are numbers; this task has {seen}: wrap the environment"
        )
    discrete = isinstance(acts, gym.spaces.Discrete) and acts.start == 0
    if not discrete and not (isinstance(acts, gym.spaces.Box) and _sized(acts) and acts.is_bounded()):
        raise ConfigError(
            f"{name}: actions must be 0, …, n-1 or a bounded Box of at least one dimension and one number; this task "
            f"has {acts}: wrap the environment"
        )


def _sized(space: gym.spaces.Box) -> bool:
    return space.shape != () and 0 not in space.shape and not (np.isnan(space.low) | np.isnan(space.high)).any()
