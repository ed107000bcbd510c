"""What one call into the sandbox costs, with both processes on one core, beside a TD3 training step.

A 17-dimensional state goes in, 22 features and a reward come out, in one round trip through `step(s)`, which calls both
generated functions. Printed are medians in a tight loop, what the same costs without a sandbox, and the share of a TD3
step on HalfCheetah. On a machine with other work the rounds differ; the best round says what the sandbox costs.

Usage: python scripts/bench_sandbox.py [--core 1] [--rounds 7] [--no-td3]
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
CALLS = 3000  # of a round

CODE = """
import numpy as np
import math

def revise_state(s):
    energy = 0.5 * np.dot(s[8:17], s[8:17])
    return np.concatenate((s, [energy, math.sin(s[1]), s[8] * s[0], abs(s[9]), s[2] - s[5]]))

def intrinsic_reward(updated_s):
    return updated_s[8] - 0.1 * updated_s[17]
"""
STEP = """
def step(s):
    updated = revise_state(s)
    return updated, intrinsic_reward(updated)

def nothing(s):
    return s
"""


def pin(core: int) -> None:
    """This process and those that it starts, before numerical libraries count the cores."""
    os.sched_setaffinity(0, {core})
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"


def microseconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return median(times) / 1000


def td3_step_us() -> float:
    """Microseconds of processor time of a TD3 step on HalfCheetah (action, environment, replay buffer, update)."""
    from bench_training import CASES, WARM_UP, go_on, ours, race

    with tempfile.TemporaryDirectory() as directory:
        train = go_on(ours(CASES["td3"], Path(directory)))
        return race({"ours": train}, 200, WARM_UP + 100)["ours"] * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-td3", action="store_true", help="leave the TD3 step out: it takes half a minute")
    args = parser.parse_args()
    pin(args.core)
    import numpy as np

    from llmrl.llm.sandbox import Sandbox

    state = np.linspace(-1.0, 1.0, 17)
    here: dict = {}
    exec(CODE + STEP, here)
    start = time.perf_counter()
    with Sandbox(CODE, ["revise_state", "intrinsic_reward"], STEP) as sandbox:
        print(f"start {1000 * (time.perf_counter() - start):.0f} ms; layers: {', '.join(sandbox.layers)}")
        ways = {
            "step": lambda: sandbox.call("step", state),
            "empty call": lambda: sandbox.call("nothing", state),
            "without a sandbox": lambda: here["step"](state),
        }
        rounds = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, call in ways.items():
                rounds[name].append(microseconds(call))
    for name, times in rounds.items():
        print(f"{name}: median {median(times):.1f} us, best round {min(times):.1f} us, worst {max(times):.1f} us")
    if not args.no_td3:
        whole = td3_step_us()
        print(f"TD3 step {whole:.0f} us; a call is {100 * median(rounds['step']) / whole:.1f} % of it")


if __name__ == "__main__":
    main()
