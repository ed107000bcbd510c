"""What a queue starts: `python task.py <batch> <number>` carries out the runs of one task, in a process of their own.

Needs the standard library alone, so that it hears the queue's signals within milliseconds, and lives on where the run's
own process dies while it imports. A signal is passed on to the run, which checkpoints; then Slurm is asked to queue
this task again, unless somebody has cancelled it, or three starts have brought nothing. A run that has to wait for
something else (exit code 75) is held as SPECIAL_EXIT until the same submission is made again.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

FAILURE, TRY_LATER = 1, 75  # exit codes of `llmrl run`; 128 + n: stopped by signal n
STARTS = 3  # without progress, after which a task is not queued again
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Task:
    def __init__(self, batch: Path, number: int) -> None:
        self.batch, self.number = batch, number
        self.runs: list[str] = json.loads((batch / "tasks.json").read_text())[number]
        self.cancelled = batch / f"{number}.cancelled"
        self.signum = 0
        self.child: subprocess.Popen | None = None
        for signum in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            signal.signal(signum, self.pass_on)

    def pass_on(self, signum: int, frame: object) -> None:
        self.signum = signum
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signum)

    def carry_out(self) -> int:
        if self.starts_without_progress() > STARTS:
            return self.give_up()
        code = self.run()
        if self.signum and code >= 128:
            return self.again()
        if code == TRY_LATER:
            (self.batch / f"{self.number}.starts").unlink(missing_ok=True)
            scontrol("requeuehold", "State=SpecialExit")
        return code

    def run(self) -> int:
        """The exit code of the runs' process, as a shell counts it."""
        argv = [sys.executable, "-m", "llmrl", "run", "--from", *self.runs, "--join"]
        self.child = subprocess.Popen(argv, env=THREADS | os.environ, stdin=subprocess.DEVNULL)
        if self.signum:  # it came while the process was being started
            self.child.send_signal(self.signum)
        code = self.child.wait()
        return code if code >= 0 else 128 - code

    # --- starting again -----------------------------------------------------------------------------------------------

    def again(self) -> int:
        """Queues the task again, or says why not. What Slurm ends by itself (it is cancelled, or queued again
        already) is not RUNNING for it any more."""
        code = 128 + self.signum
        if self.cancelled.exists() or state() not in ("RUNNING", ""):
            return code
        problem = scontrol("requeue")
        if problem:
            self.note(f"not queued again: {problem}")
            print(f"llmrl: {self.batch} {self.number}: not queued again: {problem}", file=sys.stderr, flush=True)
        return code

    def starts_without_progress(self) -> int:
        """How many starts there were, this one included, since the runs last got further."""
        file, now = self.batch / f"{self.number}.starts", [progress(Path(run)) for run in self.runs]
        starts = 1
        if file.exists():
            before = json.loads(file.read_text())
            starts = before["starts"] + 1 if before["progress"] == now else 1
        write(file, {"progress": now, "starts": starts})
        return starts

    def give_up(self) -> int:
        self.note(
            f"no progress over {STARTS} starts: each was ended before a checkpoint. Allow it more time "
            f"(hydra.launcher.time, signal_s). Log: {self.batch / f'{self.number}.log'}",
            status="FAILED",
        )
        return FAILURE

    def note(self, reason: str, **more: str) -> None:
        """Tells why those of the runs that are not done do not go on."""
        for run in self.runs:
            file = Path(run) / "status.json"
            known = read(file)
            if known.get("status") not in ("DONE", "RUNNING", "FAILED"):
                updated = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                write(file, known | {"reason": reason, "updated": updated} | more)


def progress(run: Path) -> list[str]:
    """What grows as a run, the runs in it, and what it waits for, get further."""
    after = (read(run / "status.json").get("job") or {}).get("after", [])
    found = []
    for folder, below, files in (step for place in (run, *map(Path, after)) for step in os.walk(place)):
        below.sort()
        if "status.json" in files:
            known = read(Path(folder, "status.json"))
            found.append(f"{folder} {known.get('env_steps', 0)} {known.get('updates', 0)}")
        if "llm.jsonl" in files:
            found.append(str(Path(folder, "llm.jsonl").stat().st_size))
    return found


def handle() -> str:
    """This task to Slurm. SLURM_JOB_ID would be the whole array in its last task."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def state() -> str:
    """What Slurm says of this task; "" where there is no Slurm, or it does not answer."""
    try:
        asked = ["squeue", "-h", "-j", handle(), "-o", "%T"]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except (KeyError, OSError):
        return ""


def scontrol(*command: str) -> str:
    """Gives Slurm a command about this task. Returns its complaint."""
    try:
        asked = ["scontrol", *command, handle()]
        return subprocess.run(asked, capture_output=True, text=True).stderr.strip()
    except (KeyError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def write(file: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    tmp = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    tmp.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    os.replace(tmp, file)


if __name__ == "__main__":
    sys.exit(Task(Path(sys.argv[1]), int(sys.argv[2])).carry_out())
