"""What an LLM that takes 5 s an answer costs a training that goes on meanwhile (method.asynchronous=true).

One training of a small TD3 on HalfCheetah, and a server on loopback that answers after --seconds; a refresh is two
answers in turn. Two measurements of the same:

- The CPU seconds that the job's thread takes from the training, as a share of the seconds in which a refresh is under
  way. It hardly depends on what else the machine does.
- An env_step made while a refresh is under way, in units of one made right after, while nobody is asked. CPU seconds
  are of the process with all its threads, the server's too. A busy machine makes this noisy.

Usage: python scripts/bench_async.py [--env-steps 20000] [--seconds 5]
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from llm_server import Server  # noqa: E402

from llmrl import run  # noqa: E402
from llmrl.llm import client, job  # noqa: E402
from llmrl.loops.online import OnlineTraining  # noqa: E402

ANSWER = "{" + ", ".join(f'"{i}": 0.01' for i in range(6)) + "}"  # the same whatever is asked
WARM_UP = 500  # env_steps before the first update


@dataclass
class Cycle:
    """The env_steps made while a refresh is under way, and those from then to the next: (CPU seconds, seconds)."""

    asked: list[tuple[float, float]] = field(default_factory=list)
    alone: list[tuple[float, float]] = field(default_factory=list)

    def cost(self, kind: int) -> float:
        """An env_step beside the LLM in units of one without it; kind 0: of CPU seconds, 1: of seconds."""
        asked, alone = (sum(step[kind] for step in steps) / len(steps) for steps in (self.asked, self.alone))
        return asked / alone


class Watch:
    """Reads the clocks at every env_step, and knows whether the LLM is at work."""

    def __init__(self) -> None:
        self.cycles: list[Cycle] = []
        self.thread_s: list[tuple[float, float]] = []  # of each refresh: CPU seconds of its thread, seconds
        self.under_way = False
        self.before = (0.0, 0.0)

    def start(self) -> None:
        self.cycles.append(Cycle())
        self.under_way = True

    def env_step(self, learns: bool) -> None:
        now = time.process_time(), time.perf_counter()
        took = now[0] - self.before[0], now[1] - self.before[1]
        self.before = now
        if self.cycles and learns:
            (self.cycles[-1].asked if self.under_way else self.cycles[-1].alone).append(took)


def watched(watch: Watch) -> None:
    """Lets the training's loop and its jobs tell `watch`."""
    start, work, ready, learn = job.Job.__init__, job.Job._run, job.Job.ready, OnlineTraining._learn

    def job_starts(self: job.Job, *args: object) -> None:
        watch.start()
        start(self, *args)

    def job_works(self: job.Job) -> None:
        cpu_s, s = time.thread_time(), time.perf_counter()
        work(self)
        watch.thread_s.append((time.thread_time() - cpu_s, time.perf_counter() - s))

    def job_ready(self: job.Job, env_steps: int) -> object:
        value = ready(self, env_steps)
        watch.under_way = value is None
        return value

    def learns(self: OnlineTraining, step: object) -> None:
        learn(self, step)
        watch.env_step(self.clock.updates > 0)

    job.Job.__init__, job.Job._run, job.Job.ready = job_starts, job_works, job_ready
    OnlineTraining._learn = learns


def train(env_steps: int, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["method=llm_explorer", "method.asynchronous=true", "method.k=2", "agent=td3", "agent.hidden=[64,64]",
                 "agent.batch_size=64", f"agent.learning_starts={WARM_UP}", f"agent.random_steps={WARM_UP}",
                 "env=mujoco/half_cheetah", f"budget.env_steps={env_steps}", f"eval.every={env_steps}",
                 "eval.episodes=1", "eval.max_steps=10", "llm=openai_compatible", "llm.model=bench",
                 f"llm.api_base={url}", "log.progress=false", f"compute.outputs={folder}"]  # fmt: skip
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code = run.main(words)
        if code != 0:
            raise SystemExit(f"llmrl run {' '.join(words)} ended with {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-steps", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    client._litellm()  # takes seconds, once in a process
    watch = Watch()
    watched(watch)
    with Server(ANSWER) as server:
        server.on_request = lambda: server.closing.wait(args.seconds) and None
        train(args.env_steps, server.url)
    # the first refresh begins before there are updates, and its first call of a process loads more than later ones do
    cycles = [cycle for cycle in watch.cycles[1:] if cycle.asked and cycle.alone]
    for cycle in cycles:
        print(f"  {len(cycle.asked):6,} env_steps beside the LLM, {len(cycle.alone):6,} without: "
              f"CPU {cycle.cost(0):.3f}, seconds {cycle.cost(1):.3f}")  # fmt: skip
    shares = [cpu_s / s for cpu_s, s in watch.thread_s[1:]]
    milliseconds = 1000 * median(cpu_s for cpu_s, _ in watch.thread_s[1:])
    print(f"thread: {milliseconds:.0f} ms of CPU a refresh, {median(shares):.2%} of the seconds that it takes "
          f"(median of {len(shares)}, at most {max(shares):.2%})")  # fmt: skip
    share = sum(len(c.asked) for c in cycles) / sum(len(c.asked) + len(c.alone) for c in cycles)
    for kind, name in enumerate(("CPU seconds", "seconds")):
        costs = [cycle.cost(kind) for cycle in cycles]
        print(f"{name}: an env_step beside the LLM costs {median(costs):.3f} of one without it (median of "
              f"{len(costs)} refreshes, {min(costs):.3f} to {max(costs):.3f}; {share:.0%} are beside it)")  # fmt: skip


if __name__ == "__main__":
    main()
