"""The Method contract: what a run does between its checked configuration and its result.

A method is a module llmrl/methods/<name>.py (or package) that holds a frozen dataclass `Config`, which checks
conf/method/<name>.yaml, and exports its class as `METHOD`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from llmrl.config import Config as Run
    from llmrl.context import RunContext

Own = TypeVar("Own")  # the method's Config
Reads = Literal["llm", "env.task", "env.task.observation"]
Unit = Literal["env_steps", "updates"]


class Method(ABC, Generic[Own]):
    """Everything but `run` has a default, which is that of plain training."""

    artifact: ClassVar[str | None] = None  # the kind of what others build on: runs lie in outputs/artifacts/<kind>/<id>
    trains: ClassVar[bool] = True  # whether `run` trains the agent; False: it only evaluates
    suites: ClassVar[tuple[str, ...]] = ()  # of environments that it is made for; empty: any
    unit: ClassVar[Unit] = "env_steps"  # what a training is measured in; "updates": offline

    @classmethod
    def reads(cls, config: Own) -> tuple[Reads, ...]:
        """What matters beside method, agent, env, eval and budget. Whatever is not named here is not part of the run's
        id: choosing another LLM does not make another run of a method that asks none."""
        return ()

    @classmethod
    def stages(cls, run: "Run") -> Sequence["Run"]:
        """The runs that `run` builds on, in the order in which they are made, known without running anything: `plan`
        shows them, and makes them first."""
        return ()

    @classmethod
    def shared(cls, run: "Run") -> "Run":
        """Of an artifact: the one run that everybody shares who asks for it, without what it never reads (agent, seed,
        budget …). Raises ConfigError where the environment is another one."""
        return run

    @classmethod
    def work(cls, run: "Run") -> tuple[int, str]:
        """(how many, of what) `run` makes, in runs of its own too, for forecasts: env_steps, updates, rollouts …"""
        return run.budget.length, run.budget.unit

    @classmethod
    def small(cls, config: Own, env_steps: int) -> Own:
        """The same with the smallest numbers that touch everything, for `llmrl check`; `env_steps`: its budget."""
        return config

    @classmethod
    def small_env(cls, env: Any) -> Any:
        """The environment's configuration for the same, where the run's own would take long."""
        return env

    @abstractmethod
    def run(self, ctx: "RunContext") -> dict[str, Any]:
        """Carries the run to its end and returns its result: env_steps, updates, episodes, and the method's own facts
        under its name.

        Re-entrant: called from the top after every interruption. Answers come from the transcript, trainings from
        their checkpoint, what it builds on from its directory. Raises ConfigError, before anything is trained or paid,
        where the pieces do not fit; Stopped on a signal; Paused where it cannot go on now.
        """
