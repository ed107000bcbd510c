"""What compute.env_processes gains: env_steps/s of stacked seeds whose environments step in processes of their own,
over those of the same seeds without. By the clock, so on an idle machine of several cores.

A policy of 64x64 and batches of 32, so that stepping is most of the work, as on a GPU. Rounds take turns.

Usage: python scripts/bench_env_processes.py [--env mujoco/humanoid] [--seeds 4] [--env-steps 1000] [key=value …]
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmrl import api  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="mujoco/humanoid")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--env-steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    common = [
        "agent=td3", "agent.hidden=[64,64]", "agent.batch_size=32", "agent.random_steps=100",
        "agent.learning_starts=100",
        f"env={args.env}", f"budget.env_steps={args.env_steps}", "eval.every=1_000_000", "eval.episodes=1",
        "eval.max_steps=1", "log.progress=false", "compute.stack=true", *args.overrides,
    ]  # fmt: skip
    speeds: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(args.rounds):
            for apart, found in speeds.items():
                here = [f"compute.outputs={directory}/{number}-{apart}", f"compute.env_processes={str(apart).lower()}"]
                begin = time.perf_counter()
                ends = api.sweep([*common, *here], seed=list(range(args.seeds)))
                assert all(ended.status == "DONE" for ended in ends), ends
                found.append(args.seeds * args.env_steps / (time.perf_counter() - begin))
    ratios = [apart / within for within, apart in zip(speeds[False], speeds[True])]
    print(
        f"{args.seeds} seeds of {args.env} on {os.cpu_count()} cores: {median(speeds[False]):,.0f} env_steps/s in one "
        f"process, {median(speeds[True]):,.0f} with {args.seeds} more for the environments (their start included), "
        f"ratio {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    )


if __name__ == "__main__":
    main()
