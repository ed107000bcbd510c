"""Our runs beside stable-baselines3's (scripts/sb3_baseline.py) on equal evaluation cases, with intervals over seeds.

    python scripts/compare_sb3.py outputs/quickstart/llm_explorer-td3/mujoco-hopper outputs/sb3/mujoco-hopper

Prints, for the last evaluation and for the mean of all evaluations after the first tenth of training, each seed's
return (mean of its greedy episodes), the mean over seeds with Student's 95 % interval, and Welch's of the difference.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from llmrl.runs.files import read_jsonl


def scores(directory: Path) -> dict[str, np.ndarray]:
    """Per seed: the last evaluation's mean return, and the mean over the evaluations after a tenth of training."""
    runs = [[r for r in read_jsonl(p) if r["policy"] == "greedy"] for p in sorted(directory.glob("s*/eval.jsonl"))]
    later = [[r["return_mean"] for r in rows if r["env_steps"] > rows[-1]["env_steps"] / 10] for rows in runs]
    return {"last": np.array([r[-1] for r in later]), "over training": np.array([np.mean(r) for r in later])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path, help="a directory with our runs, s<seed>-<id>/")
    parser.add_argument("theirs", type=Path, help="a directory that sb3_baseline.py wrote")
    args = parser.parse_args()
    ours, theirs = scores(args.ours), scores(args.theirs)
    for what in ours:
        a, b = ours[what], theirs[what]
        for name, x in (("ours", a), ("stable-baselines3", b)):
            low, high = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
            seeds = ", ".join(f"{v:,.0f}" for v in x)
            print(f"{what:<14} {name:<18} {x.mean():8,.0f}  [{low:,.0f}, {high:,.0f}]  n={len(x)}  seeds {seeds}")
        gap = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        print(f"{what:<14} {'difference':<18} {a.mean() - b.mean():+8,.0f}  [{gap.low:+,.0f}, {gap.high:+,.0f}]")


if __name__ == "__main__":
    main()
