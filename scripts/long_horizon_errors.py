"""What a trained ExploRLLM policy of the long horizon does with its picks and places, greedy and with sampled actions.

Counted over the primitives of all episodes: what a pick is nearest to and whether it holds, and where a letter in the
hand ends up.

Usage: python scripts/long_horizon_errors.py RUN [--episodes 40]       (RUN: a run's directory)
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from llmrl.build import make_agent  # noqa: E402
from llmrl.config import from_node  # noqa: E402
from llmrl.envs.pick_place import PickPlace, task  # noqa: E402
from llmrl.runs.files import read_json  # noqa: E402
from llmrl.runs.learned import learned  # noqa: E402

LETTERS = 3  # slots 0 to 2; their bowls are slots 3 to 5


def outcome(before: dict[str, Any], info: dict[str, Any]) -> str:
    """What one primitive came to, in words."""
    after = info["truth"]
    inside = task.in_bowls(before["position"].tolist(), before["z"].tolist())
    if (held := before["held"]) < 0:
        near = int(np.linalg.norm(before["position"] - np.array(info["target"]), axis=1).argmin())
        what = "a bowl" if near >= LETTERS else "a letter in its bowl" if inside[near] else "a letter"
        return f"pick nearest to {what}: {'holds' if info['picked'] else 'misses'}"
    if after["held"] >= 0:
        return "something is in the hand, and not placed"
    placed = task.in_bowls(after["position"].tolist(), after["z"].tolist())
    return f"place: {'in its bowl' if held < LETTERS and placed[held] else 'elsewhere'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    _, clock, state = learned(args.run)
    config = from_node(read_json(args.run / "config.json"))
    env = PickPlace(config.env)
    agent = make_agent(config, env, env_steps=clock["env_steps"])
    agent.load_state_dict(state)
    for explore in (False, True):
        counted: Counter[str] = Counter()
        returns, gen = [], torch.Generator().manual_seed(0)
        for episode in range(args.episodes):
            obs, info = env.reset(seed=episode)
            earned, over = 0.0, False
            while not over:
                batch = {name: np.asarray(value)[None] for name, value in obs.items()}
                before = info["truth"]
                obs, reward, terminated, truncated, info = env.step(agent.act(batch, explore=explore, gen=gen)[0])
                counted[outcome(before, info)] += 1
                earned, over = earned + reward, terminated or truncated
            returns.append(earned)
        print(f"{'sampled' if explore else 'greedy'}: return {np.mean(returns):+.2f}")
        for what, n in counted.most_common():
            print(f"  {n:4} {what}")


if __name__ == "__main__":
    main()
