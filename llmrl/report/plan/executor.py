"""Runs a grid on this machine: one process per run, some side by side, one BLAS thread each, GPUs in turn.

A run that fails stops no other. On SIGINT (ctrl-C) and SIGTERM each gets SIGTERM and writes a checkpoint; the same
command goes on. The processes have groups of their own, so ctrl-C reaches them only from here.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DONE, PAUSED, FAILED, STOPPED = "done", "paused", "failed", "stopped"
TRY_LATER = 75  # exit code of a run that is alive elsewhere, or whose LLM cannot be reached
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Job:
    """What one process does."""

    name: str  # for people
    argv: tuple[str, ...]
    gpu: bool = False  # whether it needs one
    runs: int = 1  # how many it makes


@dataclass(frozen=True)
class Ended:
    """How a process ended, and its last line."""

    job: Job
    outcome: str
    last_line: str


def llmrl_run(args: Sequence[str]) -> tuple[str, ...]:
    """The process of a run, or of a sweep: `llmrl run <args>` without a display of progress."""
    return (sys.executable, "-m", "llmrl", "run", *args, "log.progress=false")


def gpus() -> list[str]:
    """The GPUs of this machine by the names that CUDA_VISIBLE_DEVICES takes; asked of the driver, not of torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def execute(jobs: Sequence[Job], parallel: int, devices: Sequence[str], report: Callable[[Ended], None]) -> list[Ended]:
    """Carries out all jobs, `parallel` at a time, and reports each end. Jobs that a signal kept from starting are not
    in what is returned."""
    return asyncio.run(_Pool(parallel, devices, report).run(jobs))


class _Pool:
    def __init__(self, parallel: int, devices: Sequence[str], report: Callable[[Ended], None]) -> None:
        self.devices, self.report = devices, report
        self.slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(parallel):
            self.slots.put_nowait(slot)
        self.running: set[asyncio.subprocess.Process] = set()
        self.stopping = False

    async def run(self, jobs: Sequence[Job]) -> list[Ended]:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self.stop)
        ended = await asyncio.gather(*(self.carry_out(job) for job in jobs))
        return [end for end in ended if end is not None]

    def stop(self) -> None:
        self.stopping = True
        for process in self.running:
            if process.returncode is None:
                process.terminate()

    async def carry_out(self, job: Job) -> Ended | None:
        slot = await self.slots.get()
        try:
            if self.stopping:
                return None
            ended = await self.one(job, slot)
        finally:
            self.slots.put_nowait(slot)
        self.report(ended)
        return ended

    async def one(self, job: Job, slot: int) -> Ended:
        env = os.environ | THREADS
        if job.gpu and self.devices:
            env["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        process = await asyncio.create_subprocess_exec(
            *job.argv, env=env, process_group=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.add(process)
        if self.stopping:  # the signal came while it was being started
            process.terminate()
        out, _ = await process.communicate()
        self.running.discard(process)
        lines = out.decode(errors="replace").strip().splitlines()
        return Ended(
            job, self.outcome(process.returncode or 0), lines[-1] if lines else f"exit code {process.returncode}"
        )

    def outcome(self, code: int) -> str:
        if code == 0:
            return DONE
        if self.stopping and code in (128 + signal.SIGTERM, -signal.SIGTERM):
            return STOPPED
        return PAUSED if code == TRY_LATER else FAILED
