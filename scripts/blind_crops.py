"""Does a trained ExploRLLM policy look at its crops? Its return as it is, and with the crops of another scene.

Greedy, on the same cases, nothing skipped; mean return with its 95 % interval over episodes, and successes.

Usage: python scripts/blind_crops.py RUN … [--episodes 200]       (RUN: a run's directory)
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from llmrl.build import make_agent  # noqa: E402
from llmrl.config import from_node  # noqa: E402
from llmrl.envs.pick_place import PickPlace  # noqa: E402
from llmrl.intervals import half_width, share_and_interval  # noqa: E402
from llmrl.runs.evaluate import cases, evaluate  # noqa: E402
from llmrl.runs.files import read_json  # noqa: E402
from llmrl.runs.learned import learned  # noqa: E402
from llmrl.runs.stop import Stop  # noqa: E402


class OtherCrops(gym.ObservationWrapper):
    """Positions and all else are true; the crops are those that another scene began with."""

    def __init__(self, env: gym.Env, other: gym.Env) -> None:
        super().__init__(env)
        self.other = other

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.seen, _ = self.other.reset(seed=10**6 + (seed or 0) % 10**6)
        return super().reset(seed=seed, options=options)

    def observation(self, obs: dict[str, Any]) -> dict[str, Any]:
        return obs | {"rgb": self.seen["rgb"], "height": self.seen["height"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--episodes", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for run in args.runs:
        _, clock, state = learned(run)
        config = from_node(read_json(run / "config.json"))
        env = PickPlace(config.env)
        agent = make_agent(config, env, env_steps=clock["env_steps"])
        agent.load_state_dict(state)

        def act(obs: Any, rng: Any, agent: Any = agent) -> np.ndarray:
            return agent.act(obs, explore=False, gen=torch.Generator())

        print(run)
        for name, table in (("as it is", env), ("other crops", OtherCrops(env, PickPlace(config.env)))):
            scores = evaluate(act, table, cases(0, "eval", args.episodes), max_steps=100, stop=Stop())
            returns = np.array(scores.returns)
            half, success = half_width(returns), share_and_interval(scores.successes["success"])
            print(f"  {name:12} {returns.mean():+.2f}{'' if half is None else f' ±{half:.2f}'}, {success}", flush=True)


if __name__ == "__main__":
    main()
