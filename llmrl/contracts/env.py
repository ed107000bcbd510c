"""The contracts of environments, and of wrappers, which change what an agent sees of one and is paid.

A suite is one module with `Config` (an `EnvConfig`) and `make(config, role, *, render=False) -> gym.Env`; its tasks are
`conf/env/<suite>/*.yaml`. The contract of every environment: `reset(seed=s)` starts an episode that s and the actions
determine, whatever was played before (a resume resets with the seed and replays the actions). The reward returned is
the one to learn from; where that is not the environment's own, `info["reward_env"]` holds the own one.
`info["life_lost"]` is True on a step whose lost life is terminal for learning although the episode goes on.
`info["measures"]` holds numbers whose sums over an episode stand beside its return in evaluations. It may change arrays
that it returned, and the action that it is given: whoever plays it (runs/play.py) copies both.

A wrapper is a module llmrl/methods/<name>/wrapper.py that holds a frozen dataclass `Config`, which checks
conf/wrapper/<name>.yaml, and exports its class as `WRAPPER`. It works with every method and agent.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import gymnasium as gym

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


class EnvConfig(Protocol):
    """What the Config of every suite has."""

    @property
    def suite(self) -> str: ...  # names the module

    @property
    def task(self) -> Task: ...

    @property
    def frames_per_step(self) -> int: ...  # frames of the game per env_step, 1 where there are no frames


class Wrapper(gym.Wrapper, ABC):
    """Stands between an environment and its agent. The contract of environments holds for it too.

    A field of its Config that names a file or an artifact's directory has the metadata {"identity": "content",
    "key": its whole key, "file": the file's name in a directory}: it counts by content, and the run keeps a copy.
    """

    @abstractmethod
    def __init__(self, env: gym.Env, config: Any, role: Role, *, gamma: float) -> None:
        """Around `env`, for an agent that discounts by `gamma`. Raises ConfigError where the two do not fit.

        Args:
            config: the module's Config.
            role: in evaluation the reward returned is the environment's own.
        """
        super().__init__(env)

    def metrics(self) -> dict[str, float]:
        """Numbers worth logging beside training, such as means since the last call: what it keeps for them is part of
        `state_dict`. Of environments side by side the mean is logged."""
        return {}

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """For the run's result, under `wrapper`: numbers or lists of numbers, of which the mean over side-by-side
        environments is told, and words, which are alike in all."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What is kept across episodes. A resume plays the episode under way again, then loads this."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
