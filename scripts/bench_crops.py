"""What an update of SAC on crops costs, beside stable-baselines3's with the encoder written down plainly.

The same numbers (tests/agents/test_sac_crops.py): weights, batches, random numbers. One core, one thread, updates that
take turns, medians of rounds after those that warm up; what the replay buffer needs to draw a batch; and what the
encoder's forward and backward pass takes as it is and compiled (it is not compiled in runs: docs/results.md).

Usage: python scripts/bench_crops.py [--batch 256] [--rounds 15]
"""

import argparse
import copy
import os
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "agents")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from plain_crops import RESIDUAL, PlainEncoder, crop_batch, crop_space, crop_steps  # noqa: E402
from small_agents import make  # noqa: E402
from stable_baselines3 import SAC  # noqa: E402
from test_agents_sb3 import sb3_model, sb3_update  # noqa: E402

from llmrl.agents.nets_crops import see  # noqa: E402
from llmrl.replay.crops import CropReplay  # noqa: E402
from llmrl.replay.ring import Sampling  # noqa: E402

WARM_UP = 2  # rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space, rng = crop_space(), np.random.default_rng(0)
    policy = {"features_extractor_class": PlainEncoder}
    theirs = sb3_model(SAC, "MultiInputPolicy", space, RESIDUAL, policy_kwargs=policy, gamma=0.9, learning_rate=1.5e-4)
    ours = make("sac_crops", space, RESIDUAL)
    data = crop_batch(space, RESIDUAL, args.batch, seed=0)
    sampling = Sampling(args.batch, 0, 1, 0.9, True)
    buffer = CropReplay(space, RESIDUAL, capacity=5000, n_envs=1, sampling=sampling)
    for step in crop_steps(space, RESIDUAL, 5000, rng):
        buffer.add(step)
    obs = {key: part[:1].numpy() for key, part in data.obs.items()}
    contenders = {
        "plain": lambda: sb3_update(theirs, data),
        "ours": lambda: ours.update(data),
        "draw": lambda: next(buffer.batches(1, rng, SimpleNamespace(device=torch.device("cpu")))),
        "act": lambda: ours.act(obs, explore=True, gen=ours.gen),
    }
    encoder = copy.deepcopy(ours.critic.encoder).train()
    compiled = torch.compile(copy.deepcopy(encoder), dynamic=False)
    seen = see(data.obs)
    contenders |= {"encoder": lambda: encoder(seen).sum().backward(),
                   "encoder, compiled": lambda: compiled(seen).sum().backward()}  # fmt: skip
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(args.rounds + WARM_UP):
        for name, once in contenders.items():
            start = time.process_time()
            once()
            took[name].append(time.process_time() - start)
    took = {name: times[WARM_UP:] for name, times in took.items()}
    ms = {name: median(times) * 1e3 for name, times in took.items()}
    print(f"update, batch {args.batch}: ours {ms['ours']:.0f} ms, stable-baselines3's {ms['plain']:.0f} ms")
    print(f"ours is {ms['plain'] / ms['ours']:.2f}x as fast")
    ratio = median(a / b for a, b in zip(took["encoder"], took["encoder, compiled"]))
    print(f"the encoder's passes {ms['encoder']:.1f} ms; compiled they are {ratio:.2f}x as fast")
    print(f"draw a batch {ms['draw']:.1f} ms, act {ms['act']:.1f} ms")
    print(
        f"{1e3 / (ms['ours'] + ms['draw'] + ms['act']):.1f} env_steps/s at one update a step, without the environment"
    )


if __name__ == "__main__":
    main()
