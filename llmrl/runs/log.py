"""Logs of a run: jsonl is the truth; wandb (wandb_mirror.py) and TensorBoard are mirrors that read it, so that nothing
is lost with them.

metrics.jsonl   training: one row per episode, one per `log.every` env_steps
eval.jsonl      one row per evaluation, every episode's return and length
timing.jsonl    whatever a clock says; never compared, never cut
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.runs.files import write_text, writing
from llmrl.runs.lease import TakenOver
from llmrl.runs.wandb_mirror import WandbProcess

CUT = ("metrics", "eval")  # cut back to the checkpoint on resume
BUFFER = 1 << 13  # bytes


class JsonLines:
    """An append-only file of rows. Floats are written so that they read back exactly; NaN is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = bytearray()  # not in the file yet: a buffer of Python's would write without asking whose it is
        with writing(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (lives as long as the run)
        self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        """A killed writer, or a full disk, may have left half a row at the end."""
        self._file.seek(0)
        self.cut(self._file.read().rfind(b"\n") + 1)

    def write(self, row: dict[str, Any]) -> None:
        self._rows += json.dumps(row, allow_nan=False).encode() + b"\n"
        if len(self._rows) > BUFFER:
            self.flush()

    def flush(self) -> None:
        with writing(self._path):
            while self._rows:
                del self._rows[: self._file.write(self._rows)]

    def offset(self) -> int:
        """Bytes that are safely on disk, for the checkpoint's manifest."""
        self.flush()
        with writing(self._path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def cut(self, offset: int) -> None:
        self.flush()
        with writing(self._path):
            self._file.truncate(offset)
            self._file.seek(offset)

    def close(self) -> None:
        """Closes the file; what a full disk does not take is lost, and done again by a resume. What another process has
        taken over is left alone."""
        with suppress(OSError, TakenOver):
            self.flush()
        with suppress(OSError):
            self._file.close()


class RunLog:
    """The three files of a run and their mirrors."""

    def __init__(self, directory: Path, *mirrors: "Mirror | WandbProcess") -> None:
        self._files = {name: JsonLines(directory / f"{name}.jsonl") for name in (*CUT, "timing")}
        self._mirrors = list(mirrors)

    def metrics(self, row: dict[str, Any]) -> None:
        self._files["metrics"].write(row)

    def evaluation(self, row: dict[str, Any]) -> None:
        self._files["eval"].write(row)
        self.flush()

    def timing(self, row: dict[str, Any]) -> None:
        self._files["timing"].write(row)

    def offsets(self) -> dict[str, int]:
        self._files["timing"].flush()
        return {name: self._files[name].offset() for name in CUT}

    def cut(self, offsets: dict[str, int]) -> None:
        """Back to where a checkpoint was: what came after it is about to be done again."""
        for name in CUT:
            self._files[name].cut(offsets.get(name, 0))
        self.flush()

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()
        self._with_mirrors("follow")

    def close(self) -> None:
        """Never raises: a run that failed has told its reason already, and a finished one has flushed before."""
        for file in self._files.values():
            file.close()
        self._with_mirrors("follow")
        self._with_mirrors("close")

    def _with_mirrors(self, verb: str) -> None:
        """A mirror that breaks must not break the run: it is left behind, and the files hold everything."""
        for mirror in list(self._mirrors):
            try:
                getattr(mirror, verb)()
            except Exception as error:
                print(f"log.{mirror.name}: the mirror stopped ({error}); the jsonl files go on", file=sys.stderr)
                self._mirrors.remove(mirror)


class Mirror(ABC):
    """Sends rows of metrics.jsonl and eval.jsonl elsewhere, each once and in order: it counts them."""

    name: str  # its key in conf/log

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state = directory / f"{self.name}_rows_sent.json"
        self._sent = json.loads(self._state.read_text()) if self._state.exists() else dict.fromkeys(CUT, 0)
        self._read = dict.fromkeys(CUT, (0, 0))  # bytes and rows that were read in this process

    def follow(self) -> None:
        """Sends what is new. Rows that a resume writes again were sent before, and are passed over."""
        for name, prefix in (("metrics", "train"), ("eval", "eval")):
            path = self._directory / f"{name}.jsonl"
            offset, number = self._read[name]
            if path.stat().st_size < offset:  # it was cut
                offset, number = 0, 0
            with open(path, "rb") as file:
                file.seek(offset)
                lines = [line for line in file.readlines() if line.endswith(b"\n")]
            for line in lines:
                offset, number = offset + len(line), number + 1
                if number > self._sent[name]:
                    self._send(*_numbers(prefix, json.loads(line)))
                    self._sent[name] = number
            self._read[name] = (offset, number)
        self._flush()
        write_text(self._state, json.dumps(self._sent))

    @abstractmethod
    def _send(self, env_steps: int, numbers: dict[str, float]) -> None:
        """Hands one row's numbers on."""

    @abstractmethod
    def _flush(self) -> None:
        """Makes sure that what was sent is kept; only then is it counted as sent."""

    @abstractmethod
    def close(self) -> None:
        """Ends the connection or the file."""


def _numbers(prefix: str, row: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """A row's env_steps, and its other numbers as train/episode/return and the like."""
    label = row.get("policy", row.get("kind", ""))
    numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and k != "env_steps"}
    return row["env_steps"], {f"{prefix}/{label}/{k}": v for k, v in numbers.items()}


class TensorBoardMirror(Mirror):
    """TensorBoard's event files, in <run>/tensorboard/: `tensorboard --logdir outputs` shows all runs."""

    name = "tensorboard"

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(directory)
        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def _send(self, env_steps: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, env_steps)

    def _flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def mirrors_of(config: Any, directory: Path, tell: Callable[[str], None]) -> list["Mirror | WandbProcess"]:
    """The mirrors that conf/log asks for. One that cannot start is a warning: the jsonl files are the truth."""
    asked: dict[str, Callable[[], Mirror | WandbProcess]] = {}
    if config.wandb != "off":
        asked["wandb"] = lambda: WandbProcess(directory, config.wandb)
    if config.tensorboard:
        asked["tensorboard"] = lambda: TensorBoardMirror(directory)
    mirrors = []
    for name, start in asked.items():
        try:
            mirrors.append(start())
        except Exception as error:
            tell(f"log.{name}: no mirror ({error}); metrics.jsonl and eval.jsonl hold everything all the same")
    return mirrors


def check_tensorboard() -> None:
    """Raises ConfigError where TensorBoard is not installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise ConfigError('log.tensorboard=true needs the package tensorboard: pip install "llmrl[tensorboard]"')
