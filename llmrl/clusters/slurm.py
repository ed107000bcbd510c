"""Slurm: a batch is a job array, whose script says everything (outputs/.jobs/<batch>/job.sh)."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrl.checks import ConfigError, Count, NonNegativeInt
from llmrl.clusters.backend import Entry, Task
from llmrl.clusters.snapshot import task_program
from llmrl.runs.files import write_text

PREFIX = "llmrl-"  # of the names of our jobs
DEFAULT_LIMIT = 1001  # Slurm's own MaxArraySize
FIELDS = "%j|%F|%K|%T|%r"  # name of the job, id of its array, index in it, state, reason
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")


@dataclass(frozen=True)
class Settings:
    """conf/hydra/launcher/slurm.yaml"""

    partition: str | None
    account: str | None
    time: str | int  # minutes, or as Slurm writes it
    signal_s: Count
    cpus: Count
    memory: str | None
    gpus: NonNegativeInt
    setup: tuple[str, ...]
    options: tuple[str, ...]
    runs_per_task: Count
    nodes_per_search: Count
    wait: bool


class Slurm:
    name = "slurm"

    def __init__(self, settings: Settings | None = None) -> None:
        """Without settings it can be asked, but takes no runs."""
        self.settings = settings
        if missing := [command for command in COMMANDS if not shutil.which(command)]:
            raise ConfigError(f"slurm: there is no `{missing[0]}` here; submit from a machine of the cluster")
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"))
        self.limit = int(found[1]) if found else DEFAULT_LIMIT

    def check(self) -> None:
        options = [option.removeprefix("#SBATCH ") for option in self._options()]
        argv = ["sbatch", "--test-only", *(word for option in options for word in shlex.split(option))]
        _slurm(*argv, "--wrap", "true")

    def queue(self) -> dict[Task, Entry]:
        found = {}
        for line in _slurm("squeue", "--me", "-h", "-r", "-o", FIELDS).splitlines():
            name, array, index, state, reason = line.split("|")
            if name.startswith(PREFIX) and index.isdigit():
                reason = "" if reason == "None" else reason
                found[name.removeprefix(PREFIX), int(index)] = Entry(f"{array}_{index}", state, reason)
        return found

    def submit(self, batch: Path, tasks: int, environment: Mapping[str, str], after: Sequence[str]) -> list[str]:
        write_text(batch / "job.sh", self._script(batch, tasks, environment, after))
        job = _slurm("sbatch", "--parsable", str(batch / "job.sh")).strip().partition(";")[0]
        return [f"{job}_{number}" for number in range(tasks)]

    def release(self, handles: Sequence[str]) -> None:
        for handle in handles:
            _slurm("scontrol", "release", handle)

    def cancel(self, entries: Sequence[Entry]) -> None:
        for running in (True, False):
            handles = [entry.handle for entry in entries if (entry.state == "RUNNING") == running]
            if handles:
                _slurm("scancel", *(("--signal=TERM", "--batch") if running else ()), *handles)

    @property
    def _own(self) -> Settings:
        assert self.settings is not None
        return self.settings

    def _script(self, batch: Path, tasks: int, environment: Mapping[str, str], after: Sequence[str]) -> str:
        about = [
            f"#SBATCH --job-name={PREFIX}{batch.name}",
            f"#SBATCH --array=0-{tasks - 1}",
            f"#SBATCH --chdir={_quoted(os.getcwd())}",
            f"#SBATCH --output={_quoted(f'{batch}/%a.log')}",
            "#SBATCH --open-mode=append --requeue",
        ]
        if after:
            about.append(f"#SBATCH --dependency=afterok:{':'.join(after)} --kill-on-invalid-dep=yes")
        return "\n".join([
            "#!/bin/bash",
            *about,
            *self._options(),
            "trap '' USR2  # until task.py listens",
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            *self._own.setup,
            f"exec {shlex.quote(sys.executable)} {shlex.quote(str(task_program(environment)))} "
            f'{shlex.quote(str(batch))} "$SLURM_ARRAY_TASK_ID"',
            "",
        ])  # fmt: skip

    def _options(self) -> list[str]:
        own = self._own
        given = {"partition": own.partition, "account": own.account, "time": own.time, "cpus-per-task": own.cpus,
                 "mem": own.memory, "gres": f"gpu:{own.gpus}" if own.gpus else None}  # fmt: skip
        options = [f"--{name}={_quoted(str(value))}" for name, value in given.items() if value is not None]
        return [f"#SBATCH {option}" for option in [*options, f"--signal=B:USR2@{own.signal_s}", *own.options]]


BACKEND = Slurm


def _quoted(text: str) -> str:
    return f'"{text}"' if re.search(r"\s", text) else text


def _slurm(*command: str) -> str:
    """What a command of Slurm's prints. Raises ConfigError with its complaint."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ConfigError(f"slurm: `{shlex.join(command)}`: {done.stderr.strip()}")
    return done.stdout
