"""No queue of ours: a file of commands, one a line, for whatever starts them (Kubernetes, SkyPilot, GNU parallel).

Nobody can be asked which of them has been started, so a second submission writes the commands of all that is not done.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrl.checks import LARGEST, ConfigError, Count
from llmrl.clusters.backend import Entry, Task
from llmrl.runs.files import read_json, write_text

COMMANDS = "commands.txt"


@dataclass(frozen=True)
class Settings:
    """conf/hydra/launcher/files.yaml"""

    runs_per_task: Count
    nodes_per_search: Count
    wait: bool


class Files:
    name = "files"
    limit = LARGEST

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings

    def check(self) -> None:
        if self.settings is not None and self.settings.wait:
            raise ConfigError("hydra.launcher.wait: nobody tells when commands of a file have ended; use wait=false")

    def queue(self) -> Mapping[Task, Entry] | None:
        return None

    def submit(self, batch: Path, tasks: int, environment: Mapping[str, str], after: Sequence[str]) -> list[str]:
        lines = [f"llmrl run --from {shlex.join(runs)} --join" for runs in read_json(batch / "tasks.json")]
        write_text(batch / COMMANDS, "\n".join(lines) + "\n")
        print(f"{len(lines)} commands: {batch / COMMANDS}", flush=True)
        return [f"{batch.name}_{number}" for number in range(tasks)]

    def release(self, handles: Sequence[str]) -> None:
        """Nothing is held."""

    def cancel(self, entries: Sequence[Entry]) -> None:
        """Nothing is known of what was started."""


BACKEND = Files
