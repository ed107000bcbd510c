"""Runs a grid on this machine, some runs side by side, one BLAS thread each, GPUs in turn. On a CPU a process carries
out one run after the other (llmrl/worker.py), until one fails; on a GPU, whose memory only its end frees, it has one.

A run that fails, or is killed, stops no other. On SIGINT (ctrl-C) and SIGTERM each gets SIGTERM and writes a
checkpoint; the same command goes on. The processes have groups of their own, so ctrl-C reaches them only from here.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DONE, PAUSED, FAILED, STOPPED = "done", "paused", "failed", "stopped"
TRY_LATER = 75  # exit code of a run that is alive elsewhere, or whose LLM cannot be reached
TICK_S = 1.0
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Part:
    """A run that a job makes."""

    name: str
    path: Path  # of its directory
    length: int
    unit: str  # of its length
    kind: tuple[str, ...] = ()  # runs of one kind are equally fast
    rate: float | None = None  # steps/s, as forecast; None where nobody knows


@dataclass(frozen=True, eq=False)
class Job:
    """What one process does."""

    name: str  # for people
    argv: tuple[str, ...]
    gpu: bool = False  # whether it needs one
    runs: int = 1  # how many it makes
    parts: tuple[Part, ...] = ()  # these, as far as they can be watched


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it printed."""

    job: Job
    outcome: str
    last_line: str
    output: str = ""


LLMRL_RUN = (sys.executable, "-m", "llmrl", "run")


def llmrl_run(args: Sequence[str]) -> tuple[str, ...]:
    """The process of a run, or of a sweep: `llmrl run <args>` without a display of progress."""
    return (*LLMRL_RUN, *args, "log.progress=false")


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


def nothing(*_: Job) -> None: ...


def execute(
    jobs: Sequence[Job], parallel: int, devices: Sequence[str], report: Callable[[Ended], None],
    begun: Callable[[Job], None] = nothing, tick: Callable[[], None] = nothing,
) -> list[Ended]:  # fmt: skip
    """Carries out all jobs, `parallel` at a time, and reports each begin, end and second. Jobs that a signal kept from
    starting are not in what is returned."""
    return asyncio.run(_Pool(parallel, devices, report, begun, tick).run(jobs))


class _Pool:
    def __init__(
        self, parallel: int, devices: Sequence[str], report: Callable[[Ended], None], begun: Callable[[Job], None],
        tick: Callable[[], None],
    ) -> None:  # fmt: skip
        self.devices, self.report, self.begun, self.tick = devices, report, begun, tick
        self.slots: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(parallel):
            self.slots.put_nowait(slot)
        self.running: set[asyncio.subprocess.Process] = set()
        self.workers: dict[int, _Worker] = {}  # by slot
        self.stopping = False

    async def run(self, jobs: Sequence[Job]) -> list[Ended]:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self.stop)
        ticking = asyncio.create_task(self.tick_on())
        ended = await asyncio.gather(*(self.carry_out(job) for job in jobs))
        ticking.cancel()
        for worker in self.workers.values():
            await worker.end()
        return [end for end in ended if end is not None]

    async def tick_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

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
            self.begun(job)
            ended = await self.one(job, slot)
        finally:
            self.slots.put_nowait(slot)
        self.report(ended)
        return ended

    async def one(self, job: Job, slot: int) -> Ended:
        if not job.gpu and job.runs == 1 and job.argv[: len(LLMRL_RUN)] == LLMRL_RUN:
            code, lines = await self.by_worker(job.argv[len(LLMRL_RUN) :], slot)
        else:
            process = await self.begin(job.argv, job.gpu, slot, stdin=subprocess.DEVNULL)
            out, _ = await process.communicate()
            self.running.discard(process)
            code, lines = process.returncode or 0, out.decode(errors="replace").strip().splitlines()
        return Ended(job, self.outcome(code), lines[-1] if lines else f"exit code {code}", "\n".join(lines))

    async def begin(self, argv: Sequence[str], gpu: bool, slot: int, stdin: int) -> asyncio.subprocess.Process:
        env = os.environ | THREADS
        if gpu and self.devices:
            env["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, process_group=0, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.running.add(process)
        if self.stopping:  # the signal came while it was being started
            process.terminate()
        return process

    async def by_worker(self, args: Sequence[str], slot: int) -> tuple[int, list[str]]:
        """The exit code of a run, and what it printed. After one that did not end well, the slot gets a new worker."""
        if slot not in self.workers:
            mark = uuid.uuid4().hex
            argv = (sys.executable, "-m", "llmrl.worker", mark)
            self.workers[slot] = _Worker(await self.begin(argv, False, slot, stdin=subprocess.PIPE), mark)
        worker = self.workers[slot]
        code, lines = await worker.carry_out(args)
        if code != 0:
            del self.workers[slot]
            await worker.end()
            self.running.discard(worker.process)
        return code, lines

    def outcome(self, code: int) -> str:
        if code == 0:
            return DONE
        if self.stopping and code in (128 + signal.SIGTERM, -signal.SIGTERM):
            return STOPPED
        return PAUSED if code == TRY_LATER else FAILED


class _Worker:
    """A process of llmrl/worker.py."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self.process, self.mark = process, mark.encode()

    async def carry_out(self, args: Sequence[str]) -> tuple[int, list[str]]:
        """The exit code of one run, and what it printed; the signal's, negative, where that killed the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        said = b""
        try:
            self.process.stdin.write(json.dumps(list(args)).encode() + b"\n")
            await self.process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is gone: what follows says so
        while block := await self.process.stdout.read(1 << 16):
            said += block
            head, found, rest = said.rpartition(b"\n" + self.mark + b" ")
            if found and rest.endswith(b"\n"):
                return int(rest), head.decode(errors="replace").strip().splitlines()
        return await self.process.wait() or 1, said.decode(errors="replace").strip().splitlines()

    async def end(self) -> None:
        """Ends it, which has nothing to do any more."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.communicate()
