"""Runs inside a run: each is a run directory like any other, and a process of `llmrl run --from <directory>`.

A child is started by writing its config.json; whoever asks for it again finds how it stands. The parent's end is the
child's: politely where the parent is asked to stop, by the kernel's signal where it is killed.
"""

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmrl.registered import check_known_to_children
from llmrl.runs.files import read_json, write_json, writing
from llmrl.runs.identity import DONE, FAILED, PAUSED, RunDirectory
from llmrl.runs.stop import Stop, Stopped

PARENT = "LLMRL_PARENT_PID"
CANDIDATES = "candidates"  # the folder of a search's trainings, each a run that any node may carry out
FIRST_LOOK_S, LAST_LOOK_S = 0.2, 10.0  # between looks at runs of other processes; each time half as long again
OK, FAILURE, BAD_INPUT, TRY_LATER = 0, 1, 2, 75  # exit codes of `llmrl run`; 128 + n: stopped by signal n
CODES = {DONE: OK, FAILED: FAILURE, PAUSED: TRY_LATER}  # where only the status is known


class Job(Protocol):
    """A run that was handed in. A cluster's executor (submitit) has jobs with the same verbs."""

    def done(self) -> bool: ...

    def tell(self, stop: Stop) -> None: ...  # calls stop.wake() at its end

    def cancel(self) -> None: ...  # politely: it writes a checkpoint

    def wait(self) -> int | None: ...  # to its end; the exit code of `llmrl run`, None where nobody knows it


class Executor(Protocol):
    def submit(self, directory: Path) -> Job: ...


@dataclass(frozen=True)
class Outcome:
    """How a child ended: DONE, FAILED or PAUSED, the reason of the latter two, and the exit code of `llmrl run`."""

    status: str
    reason: str = ""
    code: int = 0


class ChildEnded(Exception):
    """A child that was needed has failed (code 1), or was ended by a signal (128 + n); the same command tries again."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class LocalJob:
    """A process on this machine."""

    def __init__(self, directory: Path) -> None:
        variables = os.environ | {PARENT: str(os.getpid()), "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-m", "llmrl", "run", "--from", str(directory)]
        with writing(directory / "said.txt"):
            self._said = open(directory / "said.txt", "wb")  # noqa: SIM115 (the process writes to it)
        self._process = subprocess.Popen(
            argv, env=variables, stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT,
            start_new_session=True,  # ctrl-C reaches it only from here
        )  # fmt: skip

    def done(self) -> bool:
        return self._process.poll() is not None

    def tell(self, stop: Stop) -> None:
        def wait() -> None:
            self._process.wait()
            stop.wake()

        threading.Thread(target=wait, daemon=True, name="child").start()

    def cancel(self) -> None:
        if not self.done():
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        code = self._process.wait()
        self._said.close()
        return code if code >= 0 else 128 - code


class LocalExecutor:
    """Children as processes of this machine."""

    def submit(self, directory: Path) -> LocalJob:
        return LocalJob(directory)


default: Callable[[], Executor] = LocalExecutor  # of runs that name none


def prepare(directory: Path, config: Any) -> None:
    """Writes what the child is to run. `config` is its checked Config; nothing is scaled a second time."""
    prepare_node(directory, node_of(config))


def prepare_node(directory: Path, node: Mapping[str, Any]) -> None:
    """The same of a composed node. Raises ConfigError where the child would not know what the node chooses."""
    check_known_to_children(node.get("choices", {}), "what this run builds on")
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "config.json").exists():
        write_json(directory / "config.json", node)


def node_of(config: Any) -> dict[str, Any]:
    """A checked Config as the node that it could have come from."""
    node = dataclasses.asdict(config)
    return node | {"budget": node["budget"] | {"scale": 1.0}, "wrapper": node["wrapper"] or {}}


def outcome_of(directory: Path) -> Outcome | None:
    """How the child ended; None while it has not."""
    known = RunDirectory(directory).status()
    if known.get("status") in (DONE, FAILED, PAUSED):
        return Outcome(known["status"], known.get("reason", ""), CODES[known["status"]])
    return None


def run_all(directories: Sequence[Path], parallel: int, stop: Stop, executor: Executor | None = None) -> list[Outcome]:
    """Runs all children that have not ended yet, `parallel` at a time, and tells how each ended.

    Where a child is alive already (an orphan that is about to end, or another process that wants the same), it is
    waited for; of a search's candidates one is trained meanwhile, if nobody else does. Raises Stopped on a signal,
    after the children wrote their checkpoints.
    """
    executor = executor or default()
    waiting = list(dict.fromkeys(directories))
    running: dict[Path, Job] = {}
    codes: dict[Path, int | None] = {}
    look_s = FIRST_LOOK_S
    try:
        while waiting or running:
            for directory in list(waiting):
                if _finished(directory):
                    waiting.remove(directory)
                elif len(running) < parallel:
                    if RunDirectory(directory).alive():
                        mine = claimable(directory)
                    else:
                        mine = directory
                        waiting.remove(directory)
                    if mine is not None:
                        running[mine] = executor.submit(mine)
                        running[mine].tell(stop)
            if waiting or running:
                stop.wait(look_s)
                look_s = min(1.5 * look_s, LAST_LOOK_S)
            for directory in [d for d, job in running.items() if job.done()]:
                codes[directory] = running.pop(directory).wait()
                look_s = FIRST_LOOK_S
                if directory in directories and outcome_of(directory) is None and RunDirectory(directory).alive():
                    waiting.append(directory)  # somebody else was quicker
    except (Stopped, KeyboardInterrupt):
        for job in running.values():
            job.cancel()
        for job in running.values():
            job.wait()
        raise
    return [_ended(directory, codes.get(directory)) for directory in directories]


def claimable(search: Path) -> Path | None:
    """A candidate of a search that waits to be trained; any of them, so that several nodes rarely choose the same."""
    waiting = [file.parent for file in search.glob(f"{CANDIDATES}/*/config.json")
               if outcome_of(file.parent) is None and not RunDirectory(file.parent).alive()]  # fmt: skip
    return secrets.choice(waiting) if waiting else None


def worst_code(codes: Sequence[int]) -> int:
    """The exit code of several runs: a signal's, else 1 where one has failed, 2 where one is refused, 75 where one has
    to wait, 0."""
    if stopped := [code for code in codes if code >= 128]:
        return stopped[-1]
    return next((code for code in (FAILURE, BAD_INPUT, TRY_LATER) if code in codes), OK)


def worst(directories: Iterable[Path]) -> int:
    """The exit code of all of these runs together, by what their directories say: 0 all done, 1 one has failed, else
    75."""
    statuses = {RunDirectory(directory).status().get("status") for directory in directories}
    return FAILURE if FAILED in statuses else OK if statuses <= {DONE} else TRY_LATER


def _finished(directory: Path) -> bool:
    known = outcome_of(directory)
    return known is not None and known.status == DONE


def _ended(directory: Path, code: int | None) -> Outcome:
    """What the child wrote; with its exit `code`, where that is known and no other run has gone on since."""
    known = outcome_of(directory)
    if known is not None:
        return known if known.status == DONE or not code else dataclasses.replace(known, code=code)
    # killed, or stopped before its directory was its own
    said = (directory / "said.txt").read_text(errors="replace").strip().splitlines()
    if code and code >= 128:
        return Outcome(FAILED, f"its process was ended by signal {code - 128}", code)
    return Outcome(FAILED, said[-1] if said else "its process was killed", code or 1)


def follow_parent() -> None:
    """In a child: SIGTERM when the parent dies (Linux), which is also how a person would stop it."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it died before we could ask
        raise SystemExit(128 + signal.SIGTERM)


def result_of(directory: Path) -> dict[str, Any]:
    """result.json of a finished child."""
    return read_json(directory / "result.json")
