"""What a script reaches in CLEVR-Robot: success, and lengths and pushes of its successful rollouts.

`--random 1` is the random policy (35.6 % of 500 in docs/papers/kalm.md); `--random 0.4 --dst 0` the noisy
greedy one (82 % of 100). The authors' 80 rollouts: length mean 11.2, median 5, quartiles 3 and 13.2; 67 % of the
pushes are of dst, 28 % of src, 5 % of others. The last line is json.

Usage: python scripts/clevr_script.py [--episodes 500] [--random 0.1] [--dst 0.75] [--goals base | hard] [--threads 2]
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402

from llmrl.envs.clevr_robot import goals as g  # noqa: E402
from llmrl.envs.clevr_robot.batch import Scenes  # noqa: E402
from llmrl.envs.clevr_robot.collect import Script, play  # noqa: E402

KINDS = {"two": g.TWO, "three": g.THREE, "order": g.ORDER, "sort": g.SORT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--random", type=float, default=0.1)
    parser.add_argument("--dst", type=float, default=0.75)
    parser.add_argument("--goals", choices=["base", *KINDS], default="base", help="hard kinds: with --random 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    if args.goals == "base":
        goals = np.resize(g.BASE, (args.episodes, 6))
    else:
        drawn = (g.draw("hard", rng) for _ in iter(int, 1))
        kind = KINDS[args.goals]
        goals = np.stack([next(goal for goal in drawn if goal[5] == kind) for _ in range(args.episodes)])

    config = gym.make("llmrl/ClevrRobot-v0", disable_env_checker=True).unwrapped.config
    begin, cpu = time.perf_counter(), time.process_time()
    played = play(Scenes(config, args.threads), Script(args.random, args.dst), goals, 50, rng, with_states=False)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu

    reached = played.terminals.any(1)
    row = {"episodes": args.episodes, "success": float(reached.mean()), "env_steps": int(played.lengths.sum()),
           "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}  # fmt: skip
    if reached.any():
        lengths = played.lengths[reached]
        row |= {
            "length_mean": float(lengths.mean()),
            "length_quartiles": np.quantile(lengths, (0.25, 0.5, 0.75)).tolist(),
        }
        if args.goals == "base":
            steps = np.arange(played.actions.shape[1]) < played.lengths[:, None]
            steps[~reached] = False
            flags = np.take_along_axis(played.goals, played.actions // 8, axis=1)[steps]  # 1 src, 2 dst
            row |= {"pushes_of_src": float((flags == 1).mean()), "pushes_of_dst": float((flags == 2).mean())}
    for key, value in row.items():
        print(f"{key:18} {value}")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
