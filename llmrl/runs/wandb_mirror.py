"""Weights & Biases: a mirror of a run's jsonl files, in a process of its own, so that a server that hangs or is down
slows no training.

The rows of metrics.jsonl and eval.jsonl have one order, whatever interrupted the run, and each is a step of wandb's.
So what the server has already tells where to go on, nothing is there twice, and runs that were offline, or whose server
was, are sent later from the same files: scripts/sync_wandb.py.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from llmrl.runs.files import read_json, write_json

Mode = Literal["online", "offline"]
FILES = {"metrics": "train", "eval": "eval"}  # file -> what its numbers are called
CLOSE_S = 30.0  # that a run which has ended waits for wandb
FINISH_S = 600  # after which the process of a run that was killed gives up
LOOK_EVERY_S = 1.0
LLM_EVERY_S = 30.0  # between looks at llm.jsonl, which is read as a whole
MAX_TAG = 64  # letters, wandb's limit


class WandbProcess:
    """In the run: the process that mirrors it. It looks at the files itself, nothing is handed to it."""

    name = "wandb"

    def __init__(self, directory: Path, mode: Mode) -> None:
        self._log = directory / "wandb.log"
        argv = [sys.executable, "-m", "llmrl.runs.wandb_mirror", str(directory.absolute()), mode]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, cwd=directory
            )

    def follow(self) -> None:
        """Raises RuntimeError where the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(self._last_line())

    def close(self) -> None:
        """Waits until all is sent, but not for ever: raises RuntimeError where it was not."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # which tells it to end
        try:
            code = self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # with wandb's own
            self._process.wait()
            late = f"it did not take all within {CLOSE_S:g} s; python scripts/sync_wandb.py sends the rest"
            raise RuntimeError(late) from None
        if code != 0:
            raise RuntimeError(self._last_line())

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'its process was killed'}; all of it: {self._log}"


class Rows:
    """The rows of a run's two files in their order: by env_steps and updates, training before the evaluation there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read = dict.fromkeys(FILES, (0, 0))  # bytes and rows
        self._waiting: dict[str, deque[dict]] = {name: deque() for name in FILES}

    def new(self, *, last: bool = False) -> Iterator[dict[str, float]]:
        """What can be sent of the rows that were written since. An evaluation waits for the next row of training, which
        may be one from before it; `last`: no row follows."""
        for name in FILES:  # in the order in which RunLog flushes them
            self._load(name)
        train, evals = self._waiting["metrics"], self._waiting["eval"]
        while train or (evals and last):
            if not train or (evals and _place(evals[0]) < _place(train[0])):
                yield _numbers("eval", evals.popleft())
            else:
                yield _numbers("train", train.popleft())

    def _load(self, name: str) -> None:
        """Reads on. A resume cuts the files, and writes the same rows again: these are passed over."""
        path, (offset, rows) = self._directory / f"{name}.jsonl", self._read[name]
        if not path.exists():
            return
        skip = 0
        if path.stat().st_size < offset:
            offset, skip = 0, rows
        with open(path, "rb") as file:
            file.seek(offset)
            lines = [line for line in file.readlines() if line.endswith(b"\n")]
        if len(lines) < skip:  # not all of them are there again
            return
        self._waiting[name].extend(json.loads(line) for line in lines[skip:])
        self._read[name] = offset + sum(map(len, lines)), rows + len(lines) - skip


def _place(row: dict) -> tuple[int, int]:
    return row["env_steps"], row.get("updates", 0)


def _numbers(prefix: str, row: dict[str, Any]) -> dict[str, float]:
    """env_steps, and a row's other numbers as train/episode/return and the like."""
    label = row.get("policy", row.get("kind", ""))
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "env_steps"}
    return {"env_steps": row["env_steps"]} | {f"{prefix}/{label}/{key}": value for key, value in numbers.items()}


class WandbMirror:
    """In the process: sends each row once.

    `env_steps` is a metric, not wandb's step, which counts rows: two rows may be at one env_step.
    """

    def __init__(self, directory: Path, mode: Mode, project: str | None = None) -> None:
        """`project`: another one than the run's."""
        import wandb

        self._directory, self._mode, self._rows = directory, mode, Rows(directory)
        self._kept = directory / "wandb.json"
        self._state = read_json(self._kept) if self._kept.exists() else _new_state(directory)
        write_json(self._kept, self._state)  # the id first: a start that fails is the same run later
        config = read_json(directory / "config.json")
        about = labels(config, directory) | ({"project": project} if project else {})
        self._run = wandb.init(
            mode=mode, dir=str(directory), id=self._state["id"], resume="allow", config=config,
            settings=wandb.Settings(silent=True, disable_git=True, console="off", x_stats_pid=os.getppid()),
            **about,
        )  # fmt: skip
        for prefix in ("train/*", "eval/*", "llm/*"):
            self._run.define_metric(prefix, step_metric="env_steps")
        # online the server knows what it has; offline each process writes a folder of its own
        self.there = self._run.starting_step if mode == "online" else self._state["rows"]
        self.sent = 0  # by this process
        self._passed = 0  # rows, those that were there included
        self._llm: dict[str, float] = {}
        self._llm_size, self._llm_at = 0, -LLM_EVERY_S

    def follow(self, *, last: bool = False) -> None:
        """Sends what is new."""
        llm = self._llm_news(last)
        for row in self._rows.new(last=last):
            if self._passed >= self.there:
                self._run.log(row | llm, step=self._passed)
                self.sent, llm = self.sent + 1, {}
            self._passed += 1
        if self._mode == "offline" and self._passed > self._state["rows"]:
            self._state["rows"] = self._passed
            write_json(self._kept, self._state)

    def _llm_news(self, last: bool) -> dict[str, float]:
        """Calls, tokens and dollars so far, where there are more than at the last look."""
        path = self._directory / "llm.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size == self._llm_size or (time.monotonic() - self._llm_at < LLM_EVERY_S and not last):
            return {}
        from llmrl.llm.transcript import Transcript

        self._llm_size, self._llm_at = size, time.monotonic()
        usage = Transcript(path, read_only=True).usage()
        counts = {
            key: usage[key] for key in ("calls", "prompt_tokens", "completion_tokens", "usd") if usage[key] is not None
        }
        failed = sum(usage["failures"].values()) + sum(usage["rejected"].values())
        self._llm = {f"llm/{key}": value for key, value in counts.items()} | {"llm/failures": failed}
        return self._llm

    def close(self) -> None:
        """Sends the rest, and the LLM's totals; waits until wandb has it."""
        self.follow(last=True)
        self._run.summary.update(self._llm)
        self._run.finish()


def labels(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """How wandb shows the run: project, name, group (its seeds), tags."""
    log, choices = config["log"], config["choices"]
    tags = [str(config["study"]), *(choices[key] for key in ("method", "agent", "env") if key in choices)]
    tags += [f"seed {config['seed']}", *log.get("wandb_tags", ())]
    return {
        "project": log["wandb_project"],
        "name": "/".join(directory.parts[-4:]),
        "group": log.get("wandb_group") or "/".join(directory.parts[-4:-1]),
        "job_type": choices["method"],
        "tags": list(dict.fromkeys(tag[:MAX_TAG] for tag in tags)),
    }


def _new_state(directory: Path) -> dict[str, Any]:
    """A new run at wandb: rerun=true is one. An earlier version of the mirror named it by its path."""
    old = directory / "wandb_rows_sent.json"
    if not old.exists():
        return {"id": uuid.uuid4().hex[:16], "rows": 0}
    return {"id": sha256(str(directory.resolve()).encode()).hexdigest()[:16], "rows": sum(read_json(old).values())}


def main(directory: Path, mode: Mode) -> None:
    """Mirrors a run until stdin ends."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)  # they are the run's, whose end is ours
    with open(directory / "wandb.lock", "w") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # the mirror of a run that was killed may not have ended yet
        mirror = WandbMirror(directory, mode)
        while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
            mirror.follow()
        signal.alarm(FINISH_S)
        mirror.close()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), "online" if sys.argv[2] == "online" else "offline")
    except Exception as error:  # noqa: BLE001 (the run says it)
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
