"""Ray: a task is a detached actor, which waits for its CPUs in the cluster, outlives who submitted it, and is started
again where its process or node died. What runs build on needs no order: a run makes it, helps with it, or waits for it.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.checks import LARGEST, ConfigError, Count, NonNegativeInt
from llmrl.clusters.backend import Entry, Task
from llmrl.clusters.snapshot import task_program

NAMESPACE = "llmrl"
ANSWER_S = 10.0  # within which an actor that runs answers


@dataclass(frozen=True)
class Settings:
    """conf/hydra/launcher/ray.yaml"""

    address: str
    cpus: Count
    gpus: NonNegativeInt
    restarts: NonNegativeInt
    runs_per_task: Count
    nodes_per_search: Count
    wait: bool


class Ray:
    name = "ray"
    limit = LARGEST

    def __init__(self, settings: Settings | None = None) -> None:
        """Without settings it can be asked, but takes no runs."""
        self.settings = settings
        try:
            import ray
        except ImportError:
            raise ConfigError('hydra/launcher=ray needs the package ray: pip install "llmrl[ray]"') from None
        self._ray = ray
        if not ray.is_initialized():
            address = settings.address if settings else "auto"
            try:
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigError(f"hydra.launcher.address={address}: no Ray cluster answers ({error})") from None

    def check(self) -> None:
        assert self.settings is not None
        there = self._ray.cluster_resources()
        for name, wanted in (("CPU", self.settings.cpus), ("GPU", self.settings.gpus)):
            if wanted > there.get(name, 0):
                raise ConfigError(f"hydra.launcher: {wanted} {name}s asked for, the cluster has {there.get(name, 0):g}")

    def queue(self) -> dict[Task, Entry]:
        found = {}
        for actor in self._ray.util.list_named_actors(all_namespaces=True):
            batch, dash, number = actor["name"].rpartition("/")
            if actor["namespace"] == NAMESPACE and dash:
                found[batch, int(number)] = Entry(actor["name"], "PENDING")
        return found

    def submit(self, batch: Path, tasks: int, environment: Mapping[str, str], after: Sequence[str]) -> list[str]:
        assert self.settings is not None
        own, names = self.settings, [f"{batch.name}/{number}" for number in range(tasks)]
        actor: Any = self._ray.remote(_actor())
        for number, name in enumerate(names):
            argv = [sys.executable, str(task_program(environment)), str(batch), str(number)]
            actor.options(
                name=name, namespace=NAMESPACE, lifetime="detached", max_restarts=own.restarts, num_cpus=own.cpus,
                num_gpus=own.gpus,
            ).remote(name, argv, dict(environment), os.getcwd(), str(batch / f"{number}.log"))  # fmt: skip
        return names

    def release(self, handles: Sequence[str]) -> None:
        """Nothing is held."""

    def cancel(self, entries: Sequence[Entry]) -> None:
        """An actor that answers runs, and passes SIGTERM on; one that waits for its CPUs does not answer."""
        asked: dict[Any, Any] = {}
        for entry in entries:
            with suppress(ValueError):  # it has ended meanwhile
                actor = self._ray.get_actor(entry.handle, namespace=NAMESPACE)
                asked[actor.stop.remote()] = actor
        _, silent = self._ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
        for ref in silent:
            self._ray.kill(asked[ref], no_restart=True)


BACKEND = Ray


def _actor() -> type:
    """Defined in a function, so that it travels by value: a node's own llmrl may be another one."""

    class Runs:
        """Carries out a task in a process of its own, and ends itself behind it. Ray kills that process with the actor;
        `stop` lets it checkpoint first."""

        WAITS, LATER_S = 24, 5.0  # for who held the runs before us and checkpoints
        TRY_LATER = 75

        def __init__(self, name: str, argv: list[str], environment: dict[str, str], cwd: str, log: str) -> None:
            import threading

            self.process: Any = None
            self.stopped = threading.Event()
            threading.Thread(target=self.carry_out, args=(name, argv, environment, cwd, log)).start()

        def stop(self) -> None:
            self.stopped.set()
            if self.process is not None:
                self.process.terminate()

        def carry_out(self, name: str, argv: list[str], environment: dict[str, str], cwd: str, log: str) -> None:
            import ray

            try:
                for _ in range(self.WAITS):
                    if self.once(argv, environment, cwd, log) != self.TRY_LATER or self.stopped.wait(self.LATER_S):
                        break
            finally:
                ray.kill(ray.get_actor(name, namespace="llmrl"), no_restart=True)

        def once(self, argv: list[str], environment: dict[str, str], cwd: str, log: str) -> int:
            import os
            import subprocess

            with open(log, "ab") as out:
                self.process = subprocess.Popen(argv, env=os.environ | environment, cwd=cwd, stdin=subprocess.DEVNULL,
                                                stdout=out, stderr=out)  # fmt: skip
                if self.stopped.is_set():  # it came while the process was being started
                    self.process.terminate()
                return self.process.wait()

    return Runs
