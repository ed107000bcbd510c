"""Our runs beside stable-baselines3's (scripts/sb3_baseline.py) on equal evaluation cases, with intervals over seeds.

    python scripts/compare_sb3.py outputs/quickstart/llm_explorer-td3/mujoco-hopper outputs/sb3/mujoco-hopper

Prints, for the last evaluation and for the mean of all evaluations after the first tenth of training, each seed's
return (mean of its greedy episodes), the mean over seeds with Student's 95 % interval, and Welch's of the difference.
"""

import argparse
from pathlib import Path

import numpy as np

from llmrl.report.stats import Estimate, student, welch
from llmrl.runs.files import read_jsonl


def scores(directory: Path) -> dict[str, np.ndarray]:
    """Per seed: the last evaluation's mean return, and the mean over the evaluations after a tenth of training."""
    runs = [[r for r in read_jsonl(p) if r["policy"] == "greedy"] for p in sorted(directory.glob("s*/eval.jsonl"))]
    later = [[r["return_mean"] for r in rows if r["env_steps"] > rows[-1]["env_steps"] / 10] for rows in runs]
    return {"last": np.array([r[-1] for r in later]), "over training": np.array([np.mean(r) for r in later])}


def interval(made: Estimate) -> str:
    return "no interval below 3 seeds" if made.low is None else f"[{made.low:,.0f}, {made.high:,.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path, help="a directory with our runs, s<seed>-<id>/")
    parser.add_argument("theirs", type=Path, help="a directory that sb3_baseline.py wrote")
    args = parser.parse_args()
    ours, theirs = scores(args.ours), scores(args.theirs)
    for what in ours:
        a, b = ours[what], theirs[what]
        for name, x in (("ours", a), ("stable-baselines3", b)):
            seeds = ", ".join(f"{v:,.0f}" for v in x)
            print(f"{what:<14} {name:<18} {x.mean():8,.0f}  {interval(student(x))}  n={len(x)}  seeds {seeds}")
        gap = welch(a, b)
        print(f"{what:<14} {'difference':<18} {gap.value:+8,.0f}  {interval(gap)}")


if __name__ == "__main__":
    main()
