"""How much of an update is matrix products: the floor below which no implementation gets on this core.

The products that the algorithm cannot do without (and an Atari network's convolutions) are made by themselves, in
float32, on arrays of the sizes that they have in an update, into memory that is there already: no biases, activations,
losses, optimizers and targets. Segments of them, of our updates on one batch and of the bare environment take turns;
our agent has trained for 1,500 updates before. One core, one thread; seconds are those that the process had the core.

Usage: python scripts/bench_floor.py [--only td3|sac|ppo|dqn_cartpole|dqn_atari] [--quick]
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import bench_training as bench  # first: it chooses the core and one thread
import numpy as np
import torch

SECONDS = 0.5  # of a segment, about
ROUNDS = 7
CONVOLUTIONS = ((4, 84, 32, 8, 4), (32, 20, 64, 4, 2), (64, 9, 64, 3, 1))  # channels, edge, filters, kernel, stride


@dataclass(frozen=True)
class Product:
    run: Callable[[], Any]
    flops: int


def product(m: int, k: int, n: int) -> Product:
    a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    return Product(lambda: torch.mm(a, b, out=out), 2 * m * k * n)


def forward(batch: int, *sizes: int) -> list[Product]:
    return [product(batch, k, n) for k, n in zip(sizes, sizes[1:])]


def of_inputs(batch: int, *sizes: int) -> list[Product]:
    """Gradients of what goes into every layer."""
    return [product(batch, n, k) for k, n in zip(sizes, sizes[1:])]


def of_weights(batch: int, *sizes: int) -> list[Product]:
    """Gradients of all weights, and of what lies between the layers, which they need."""
    return [product(k, batch, n) for k, n in zip(sizes, sizes[1:])] + of_inputs(batch, *sizes[1:])


def convolutions(batch: int, gradients: bool) -> list[Product]:
    found = []
    for i, (channels, edge, filters, kernel, stride) in enumerate(CONVOLUTIONS):
        x, w = torch.randn(batch, channels, edge, edge), torch.randn(filters, channels, kernel, kernel)
        y = torch.conv2d(x, w, stride=stride)
        flops = 2 * y.numel() * w[0].numel()
        found.append(Product(lambda x=x, w=w, stride=stride: torch.conv2d(x, w, stride=stride), flops))
        if gradients:
            needed = (i > 0, True, False)  # nobody needs the image's
            how = (None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], 1, needed)
            run = lambda x=x, w=w, y=y, how=how: torch.ops.aten.convolution_backward(y, x, w, *how)  # noqa: E731
            found.append(Product(run, flops * sum(needed)))
    return found


def td3() -> list[Product]:
    """Of two updates: every second one is the policy's too."""
    n, actor, critic = 256, (17, 256, 256, 6), (23, 256, 256, 1)
    targets = forward(n, *actor) + 2 * forward(n, *critic)
    critics = 2 * (forward(n, *critic) + of_weights(n, *critic))
    policy = forward(n, *actor) + forward(n, *critic) + of_inputs(n, 6, 256, 256, 1) + of_weights(n, *actor)
    return 2 * (targets + critics) + policy


def sac() -> list[Product]:
    n, actor, critic = 256, (17, 256, 256, 12), (23, 256, 256, 1)
    targets = forward(n, *actor) + 2 * forward(n, *critic)
    critics = 2 * (forward(n, *critic) + of_weights(n, *critic))
    policy = forward(n, *actor) + 2 * (forward(n, *critic) + of_inputs(n, 6, 256, 256, 1)) + of_weights(n, *actor)
    return targets + critics + policy


def ppo() -> list[Product]:
    nets = ((17, 64, 64, 6), (17, 64, 64, 1))
    return [one for sizes in nets for one in forward(64, *sizes) + of_weights(64, *sizes)]


def dqn_cartpole() -> list[Product]:
    sizes = (4, 64, 64, 2)
    return 2 * forward(32, *sizes) + of_weights(32, *sizes)


def dqn_atari() -> list[Product]:
    n, head = 32, (3136, 512, 6)
    heads = 2 * forward(n, *head) + of_weights(n, *head) + of_inputs(n, *head[:2])
    return convolutions(n, gradients=False) + convolutions(n, gradients=True) + heads


PRODUCTS = {"td3": (td3, 2), "sac": (sac, 1), "ppo": (ppo, 1), "dqn_cartpole": (dqn_cartpole, 1)}
PRODUCTS |= {"dqn_atari": (dqn_atari, 1)}  # and of how many updates they are


def measure(name: str, quick: bool) -> None:
    case, (needed, updates) = bench.CASES[name], PRODUCTS[name]
    made = needed()
    with tempfile.TemporaryDirectory() as directory:
        training = bench.ours(case, Path(directory))
        bench.go_on(training)(case.settling(quick))
        rng, agent, replay = np.random.default_rng(0), training.agent, training.replay_buffer
        batch = next(replay.batches(getattr(replay, "minibatches", 1), rng, agent))
        env = training.slots[0].env

        def all_products() -> None:
            for one in made:
                one.run()

        def step() -> None:
            _, _, terminated, truncated, _ = env.step(bench.random_action(env, rng))
            if terminated or truncated:
                env.reset()

        calls: dict[str, Callable[[], Any]] = {"products": all_products, "update": lambda: agent.update(batch)}
        calls["environment"] = step
        times = interleaved(calls, SECONDS / 10 if quick else SECONDS)
    floor = [seconds / updates for seconds in times["products"]]
    ratios = [update / least for update, least in zip(times["update"], floor)]
    rate = sum(one.flops for one in made) / updates / median(floor) / 1e9
    spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    us = {what: 1e6 * median(seconds) for what, seconds in (times | {"floor": floor}).items()}
    products = f"products {us['floor']:.0f} us an update ({rate:.0f} GFLOP/s)"
    ours = f"our update {us['update']:.0f} us, ratio {spread}"
    print(f"{name} {products}, {ours}; environment {us['environment']:.0f} us a step", flush=True)


def interleaved(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Seconds of a call in each of the segments, which take turns."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = bench.processor_seconds()
        for _ in range(5):
            call()
        repeats[name] = max(1, round(5 * seconds / (bench.processor_seconds() - start)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = bench.processor_seconds()
            for _ in range(repeats[name]):
                call()
            times[name].append((bench.processor_seconds() - start) / repeats[name])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PRODUCTS)
    parser.add_argument("--quick", action="store_true", help="20 updates of warm-up in place of 1,500, short segments")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as a run does
    print(f"core {bench.CORE}, one thread, torch {torch.__version__}; median [range] of {ROUNDS} segments", flush=True)
    for name in [args.only] if args.only else PRODUCTS:
        measure(name, args.quick)


if __name__ == "__main__":
    main()
