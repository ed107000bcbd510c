"""Updates/s of offline training at KALM's sizes, everything included: drawing batches, the loop, its log.

Processor time on one core, one thread; of the segments the median and, since other programs slow one down, the fastest.
d3rlpy's beside it, in the same session and by turns, where an interpreter is named that has it
(scripts/d3rlpy_golden.py says how).

Usage: python scripts/bench_offline.py [--only bc] [--updates 300] [--segments 5] [--d3rlpy /tmp/d3rlpy/bin/python]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from gymnasium import spaces  # noqa: E402
from small_agents import make, vectors  # noqa: E402

from llmrl.loops.offline import OfflineTraining  # noqa: E402
from llmrl.loops.training import Schedule  # noqa: E402
from llmrl.replay.dataset import Transitions  # noqa: E402
from llmrl.runs.checkpoint import Checkpoints  # noqa: E402
from llmrl.runs.log import RunLog  # noqa: E402
from llmrl.runs.stop import Stop  # noqa: E402

CORE = sorted(os.sched_getaffinity(0))[-1]
STATE, ACTIONS = 10, 40
WIDTHS = (384, 768)  # of a sentence's vector: MiniLM's, BERT's
EPISODES, STEPS, GOALS, WORDINGS = 6400, 11, 80, 54
ASKED_MS = {"bc": 3.0, "cql": 2.4}  # 500,000 updates in 25 and in 20 minutes
NEVER = 10**9
THEIRS = ("bc", "cql")


def some_transitions(width: int, wordings: int, rng: np.random.Generator) -> Transitions:
    """As many as KALM's 6,400 rollouts have, in random numbers."""
    n = EPISODES * STEPS
    step = np.tile(np.arange(STEPS, dtype=np.int32), EPISODES)
    state = rng.standard_normal((n, STATE), np.float32)
    return Transitions(
        state, rng.integers(ACTIONS, size=n), rng.standard_normal(n, np.float32), state[::-1].copy(),
        step == STEPS - 1, step, np.repeat(rng.integers(GOALS, size=EPISODES) * wordings, STEPS).astype(np.int32),
        rng.standard_normal((GOALS * wordings, width), np.float32), wordings,
    )  # fmt: skip


def ours(name: str, width: int, directory: Path) -> OfflineTraining:
    """Half real rollouts, in 54 wordings each, and half imagined ones, as in KALM."""
    rng = np.random.default_rng(0)
    datasets = [some_transitions(width, wordings, rng) for wordings in (WORDINGS, 1)]
    agent = make(name, vectors(STATE + width), spaces.Discrete(ACTIONS))
    return OfflineTraining(
        agent,
        agent.source(*datasets),
        seed=0,
        schedule=Schedule(0, evaluate_every=NEVER, log_every=1000, checkpoint_every_s=NEVER),
        evaluate=lambda clock: None,
        log=RunLog(directory),
        checkpoints=Checkpoints(directory / "checkpoint"),
        stop=Stop(),
        report=lambda clock, facts: None,
    )


def seconds_of(training: OfflineTraining, updates: int) -> float:
    training.schedule.length += updates
    start = time.process_time()
    training.run()
    return time.process_time() - start


def compare(name: str, width: int, updates: int, segments: int, theirs: subprocess.Popen | None) -> None:
    took: dict[str, list[float]] = {"ours": [], "d3rlpy": []}
    with tempfile.TemporaryDirectory() as directory:
        training = ours(name, width, Path(directory))
        for segment in range(segments + 1):  # the first to warm up
            took["ours"].append(seconds_of(training, updates if segment else 50))
            if theirs and name in THEIRS:
                theirs.stdin.write(f"{name} {STATE + width} {updates if segment else 50}\n")
                theirs.stdin.flush()
                took["d3rlpy"].append(float(theirs.stdout.readline()))
        training.log.close()
    ms = {who: 1e3 * median(times[1:]) / updates for who, times in took.items() if times}
    least = {who: 1e3 * min(times[1:]) / updates for who, times in took.items() if times}
    asked = f" (asked for: {ASKED_MS[name]})" if name in ASKED_MS else ""
    what = f"{name} batch {training.learner.config.batch_size}, {STATE + width} numbers"
    print(f"{what}: {ms['ours']:.2f} ms an update, fastest {least['ours']:.2f}{asked}")
    if "d3rlpy" in ms:
        ratio = f"{ms['d3rlpy'] / ms['ours']:.2f}x, fastest {least['d3rlpy'] / least['ours']:.2f}x"
        print(f"  d3rlpy {ms['d3rlpy']:.2f} ms, fastest {least['d3rlpy']:.2f}; ours is {ratio} as fast")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("bc", "cql", "bcq")
    parser.add_argument("--only", choices=names)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--d3rlpy", help="an interpreter that has d3rlpy")
    args = parser.parse_args()
    os.sched_setaffinity(0, {CORE})
    torch.set_num_threads(1)
    theirs = None
    if args.d3rlpy:
        command = [args.d3rlpy, str(ROOT / "scripts" / "d3rlpy_golden.py"), "--bench"]
        theirs = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    print(f"core {CORE}, one thread, torch {torch.__version__}; median of {args.segments} x {args.updates} updates")
    for name in names if args.only is None else (args.only,):
        for width in WIDTHS:
            compare(name, width, args.updates, args.segments, theirs)
    if theirs:
        theirs.stdin.close()
        theirs.wait()


if __name__ == "__main__":
    main()
