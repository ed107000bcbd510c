"""A whole run, as checked dataclasses. Values live in conf/; a method, an agent, a suite and the LLM's client have
their own `Config` beside them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from llmrl.checks import (
    Count,
    Episodes,
    NonNegative,
    NonNegativeInt,
    PathText,
    Positive,
    Probability,
    SideBySide,
)
from llmrl.conf_files import folder_of


@dataclass(frozen=True)
class Budget:
    """How much of the paper's length a run gets. `scale` shortens every length alike, those of stages included.

    Offline training makes no env_steps: where `updates` is given, it is measured in them, and so are eval.every and
    log.every.
    """

    scale: Positive
    paper_env_steps: Count
    env_steps: Count
    evaluations: Count
    eval_episodes: Episodes
    eval_max_steps: Count
    max_evaluations: Count | None = field(metadata={"neutral": None})
    max_eval_episodes: Count | None = field(metadata={"neutral": None})
    paper_updates: Count | None = field(metadata={"neutral": None})
    updates: Count | None = field(metadata={"neutral": None})

    @property
    def unit(self) -> str:
        return "updates" if self.updates else "env_steps"

    @property
    def length(self) -> int:
        """How many of `unit` a run has."""
        return self.updates or self.env_steps

    def fewer_evaluations(self, n: int) -> int:
        """n evaluations, or as many as there may be."""
        return min(n, self.max_evaluations or n)


@dataclass(frozen=True)
class Eval:
    """The evaluation that stands beside training."""

    every: Count  # env_steps, or updates of an offline run
    episodes: Episodes
    max_steps: Count  # env_steps of one episode
    epsilon: Probability
    seed: NonNegativeInt
    workers: SideBySide = field(metadata={"identity": False, "neutral": 1})
    sets: tuple[str, ...] = field(metadata={"neutral": ()})
    sets_at: Literal["end", "every"] = field(metadata={"neutral": "end"})
    set_episodes: Episodes | dict[str, Episodes] | None = field(metadata={"neutral": None})


@dataclass(frozen=True)
class Log:
    """What is told of a run, to whom. Never changes a result."""

    every: Count  # env_steps, or updates of an offline run
    progress: bool
    wandb: Literal["off", "online", "offline"]
    wandb_project: str
    wandb_group: str | None = field(metadata={"neutral": None})
    wandb_tags: tuple[str, ...] = field(metadata={"neutral": ()})
    tensorboard: bool = field(metadata={"neutral": False})
    llm: bool = field(metadata={"neutral": False})


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes."""

    device: str
    threads: Count
    checkpoint_every_s: NonNegative
    outputs: PathText
    workers: SideBySide = field(metadata={"neutral": 1})
    stack: bool
    env_processes: bool
    graphs: bool


@dataclass(frozen=True)
class NoWrapper:
    """wrapper=none has no keys."""


@dataclass(frozen=True)
class Config:
    """A whole run, checked. `choices` names the option chosen in each group (and the experiment preset)."""

    method: Any
    agent: Any
    env: Any
    wrapper: Any | None
    llm: Any
    eval: Eval
    log: Log
    compute: Compute
    budget: Budget
    seed: NonNegativeInt
    study: str
    choices: dict[str, str]

    @property
    def name(self) -> str:
        return folder_of(self.choices)


OWN = {"eval": Eval, "log": Log, "compute": Compute, "budget": Budget}
