"""What prioritised replay costs when it is full: a batch's places, importance weights and the new priorities.

A million transitions, batches of 32, one core, one thread; beside the same done by a binary sum-tree in a plain loop
and by the same tree with numpy over the batch. Medians of rounds that take turns.

Usage: python scripts/bench_replay.py [--size 1000000] [--batch 32]
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from gymnasium import spaces  # noqa: E402

from llmrl.contracts.replay import Step  # noqa: E402
from llmrl.replay.nstep import NStepReplay  # noqa: E402
from llmrl.replay.prioritized import SMALLEST, PrioritizedReplay  # noqa: E402
from llmrl.replay.ring import Sampling  # noqa: E402
from llmrl.replay.uniform import UniformReplay  # noqa: E402

ALPHA, BETA = 0.5, 0.4
ROUNDS, SECONDS = 7, 0.3  # rounds of each, and how long one lasts at least


class LoopTree:
    """The textbook's binary sum-tree, one draw and one change at a time."""

    def __init__(self, p: np.ndarray) -> None:
        self.n = 1 << (len(p) - 1).bit_length()
        self.sums = np.zeros(2 * self.n)
        self.sums[self.n : self.n + len(p)] = p
        for node in range(self.n.bit_length() - 2, -1, -1):
            level = slice(1 << node, 2 << node)
            self.sums[level] = self.sums[2 << node : 4 << node].reshape(-1, 2).sum(1)
        self.sums = self.sums.tolist()  # a list is faster than an array, one number at a time

    def once(self, batch: int, rng: np.random.Generator, priority: np.ndarray) -> None:
        sums, places, part = self.sums, [], self.sums[1] / batch
        for i in range(batch):
            point, node = (i + rng.random()) * part, 1
            while node < self.n:
                node *= 2
                if point >= sums[node]:
                    point -= sums[node]
                    node += 1
            places.append(node)
        lowest = min(sums[node] for node in places)
        [(sums[node] / lowest) ** -BETA for node in places]
        for node, value in zip(places, priority):
            change = (value + SMALLEST) ** ALPHA - sums[node]
            while node:
                sums[node] += change
                node //= 2


class NumpyTree:
    """The same tree, level by level for the whole batch."""

    def __init__(self, p: np.ndarray) -> None:
        loop = LoopTree(p)
        self.n, self.sums = loop.n, np.array(loop.sums)

    def once(self, batch: int, rng: np.random.Generator, priority: np.ndarray) -> None:
        sums = self.sums
        point = (np.arange(batch) + rng.random(batch)) * (sums[1] / batch)
        node = np.ones(batch, np.int64)
        for _ in range(self.n.bit_length() - 1):
            node = 2 * node
            left = sums[node]
            right = point >= left
            point = point - left * right
            node = node + right
        p = sums[node]
        (p / p.min()) ** -BETA
        sums[node] = (priority + SMALLEST) ** ALPHA
        for _ in range(self.n.bit_length() - 1):
            node = node // 2
            sums[node] = sums[2 * node] + sums[2 * node + 1]


def full_buffer(size: int, batch: int) -> PrioritizedReplay:
    """Three-step prioritised replay of `size` small transitions, added ten thousand at a time."""
    n_envs = 10_000
    space = spaces.Box(-1, 1, (4,), np.float32)
    sampling = Sampling(batch, 0, 1, 0.99, True)
    rows = UniformReplay(space, spaces.Discrete(3), capacity=size, n_envs=n_envs, sampling=sampling)
    buffer = PrioritizedReplay(
        NStepReplay(rows, n=3, gamma=0.99), batch_size=batch, alpha=ALPHA, beta=BETA, anneal_updates=10**6
    )
    obs, no = np.zeros((n_envs, 4), np.float32), np.zeros(n_envs, bool)
    step = Step(obs, np.zeros(n_envs, np.int64), np.zeros(n_envs, np.float32), obs, no, no)
    for _ in range(-(-size // n_envs)):
        buffer.add(step)
    return buffer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    buffer = full_buffer(args.size, args.batch)
    buffer.write_back(np.arange(args.size), rng.gamma(1.0, size=args.size))
    p = buffer.tree.leaves.copy()
    priority = rng.gamma(1.0, size=args.batch)
    loop, tree = LoopTree(p), NumpyTree(p)

    def ours() -> None:
        place, _ = buffer.draw(rng)
        buffer.write_back(place, priority)

    contenders = {
        "ours": ours,
        "plain loop": lambda: loop.once(args.batch, rng, priority),
        "numpy binary tree": lambda: tree.once(args.batch, rng, priority),
    }
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, once in contenders.items():
            start, n = time.process_time(), 0
            while time.process_time() - start < SECONDS:
                once()
                n += 1
            took[name].append((time.process_time() - start) / n)
    mine = median(took.pop("ours"))
    print(
        f"prioritised replay of {args.size:,}, batch {args.batch}: {mine * 1e6:.0f} us for places, weights, priorities"
    )
    for name, its in took.items():
        print(f"{name}: {median(its) * 1e6:.0f} us, ours is {median(its) / mine:.1f}x as fast")


if __name__ == "__main__":
    main()
