"""What a queue has to offer. `backend: slurm` of a launcher's yaml is llmrl/clusters/slurm.py, which exports its class
as BACKEND and the launcher's keys as the frozen dataclass Settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from llmrl.checks import ConfigError

Task = tuple[str, int]  # (name of the batch, number of the task in it)


@dataclass(frozen=True)
class Entry:
    """A task in the queue.

    Args:
        handle: what others depend on, and what is cancelled.
        state: the queue's own word: PENDING, RUNNING, SPECIAL_EXIT …
        reason: why it waits, where the queue says so.
    """

    handle: str
    state: str
    reason: str = ""


class Spread(Protocol):
    """The keys that every launcher has."""

    runs_per_task: int
    nodes_per_search: int
    wait: bool  # until all runs have ended


class Backend(Protocol):
    name: str
    limit: int  # tasks of a batch at the most
    settings: Any  # of Spread, and its own

    def check(self) -> None:
        """Raises ConfigError where the queue would refuse the settings; nothing is submitted."""
        ...

    def queue(self) -> Mapping[Task, Entry] | None:
        """Every task of ours in the queue; None where nobody knows. Raises ConfigError where it cannot be asked."""
        ...

    def submit(self, batch: Path, tasks: int, environment: Mapping[str, str], after: Sequence[str]) -> list[str]:
        """Hands in tasks 0 … of the batch, each as `task.py <batch> <number>` with these variables, to start once
        `after` have ended well. Returns their handles. Raises ConfigError where they are refused."""
        ...

    def release(self, handles: Sequence[str]) -> None:
        """Lets held tasks start again."""
        ...

    def cancel(self, entries: Sequence[Entry]) -> None:
        """Takes waiting tasks out of the queue, and sends SIGTERM to those that run: they checkpoint and end."""
        ...


def queue_of(name: str) -> Backend:
    """The backend that a run's status names, to be asked."""
    return import_module(f"llmrl.clusters.{name}").BACKEND()


def backend_of(settings: Mapping[str, Any]) -> Backend:
    """The backend of a launcher's keys. Raises ConfigError with all that is wrong in them."""
    from llmrl.config import checked_at

    values = dict(settings)
    if (name := values.pop("backend", None)) is None:
        raise ConfigError("hydra/launcher: its yaml has no `backend`, so it is none of llmrl's")
    module = import_module(f"llmrl.clusters.{name}")
    try:
        return module.BACKEND(checked_at("hydra.launcher", module.Settings, values, {}))
    except ConfigError as error:
        where = f"command line, or conf/hydra/launcher/{name}.yaml"
        raise ConfigError(str(error).replace("conf/run.yaml", where)) from None
