"""What an update of SAC on crops costs: the authors' design, beside stable-baselines3's, and ours.

agent=sac_crops and stable-baselines3's SAC with the encoder written down plainly compute the same numbers
(tests/agents/test_sac_crops.py); agent=sac_objects is ours, with either of its encoders. One core, one thread, updates
that take turns, medians of rounds after those that warm up; what the replay buffer needs to draw a batch, and
acting; and what the encoder of sac_crops takes as it is and compiled (it is not compiled in runs: docs/results.md).

Usage: python scripts/bench_crops.py [--batch 64] [--rounds 15]
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
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as a run does
    space, rng = crop_space(), np.random.default_rng(0)
    policy = {"features_extractor_class": PlainEncoder}
    theirs = sb3_model(SAC, "MultiInputPolicy", space, RESIDUAL, policy_kwargs=policy, gamma=0.9, learning_rate=1.5e-4)
    ours = make("sac_crops", space, RESIDUAL, attention=True)
    named = {encoder: make("sac_objects", space, RESIDUAL, encoder=encoder) for encoder in ("cnn", "means")}
    data = crop_batch(space, RESIDUAL, args.batch, seed=0)
    sampling = Sampling(args.batch, 0, 1, 0.9, True)
    buffer = CropReplay(space, RESIDUAL, capacity=5000, n_envs=1, sampling=sampling)
    for step in crop_steps(space, RESIDUAL, 5000, rng):
        buffer.add(step)
    obs = {key: part[:1].numpy() for key, part in data.obs.items()}
    contenders = {
        "plain": lambda: sb3_update(theirs, data),
        "ours": lambda: ours.update(data),
        "cnn": lambda: named["cnn"].update(data),
        "means": lambda: named["means"].update(data),
        "draw": lambda: next(buffer.batches(1, rng, SimpleNamespace(device=torch.device("cpu")))),
        "act": lambda: named["cnn"].act(obs, explore=True, gen=ours.gen),
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
    print(f"update, batch {args.batch}: sac_crops {ms['ours']:.1f} ms, stable-baselines3's {ms['plain']:.1f} ms")
    print(f"ours is {ms['plain'] / ms['ours']:.2f}x as fast")
    for name, its in named.items():
        ratio = median(a / b for a, b in zip(took["ours"], took[name]))
        print(f"sac_objects, {its.config.encoder}: {ms[name]:.1f} ms, {ratio:.2f}x as fast as sac_crops")
    ratio = median(a / b for a, b in zip(took["encoder"], took["encoder, compiled"]))
    print(f"the encoder's passes {ms['encoder']:.1f} ms; compiled they are {ratio:.2f}x as fast")
    print(f"draw a batch {ms['draw']:.1f} ms, act {ms['act']:.1f} ms")
    print(
        f"sac_objects: {1e3 / (ms['cnn'] + ms['draw'] + ms['act']):.1f} env_steps/s at one update a step, without the "
        f"environment; sac_crops: {1e3 / (ms['ours'] + ms['draw'] + ms['act']):.1f}"
    )


if __name__ == "__main__":
    main()
