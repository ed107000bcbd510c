"""How fast KALM's offline default model learns and imagines: tokens/s of training, compiled and not, and of what it
imagines, with and without cache; beside them the floor: the matrix products of training alone.

One thread, processor time (the machine may be busy), medians of rounds that take turns, the first of which warms up and
does not count. The model has its initial
weights, so hardly a rollout ends before its 50 steps: of a trained one, whose rollouts end sooner, there are more per
second. Encoding sentences is no part of it.

Usage: python scripts/bench_kalm.py [--rounds 5] [--rollouts 256] [--updates 10] [key=value as in conf/llm_model/ …]
"""

import argparse
import copy
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench_floor as floor  # noqa: E402  # first: it chooses the core
import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from llmrl.conf_files import conf_root  # noqa: E402
from llmrl.config import checked  # noqa: E402
from llmrl.envs import text as encoders  # noqa: E402
from llmrl.envs.clevr_robot import language  # noqa: E402
from llmrl.envs.clevr_robot.collect import Script, collect  # noqa: E402
from llmrl.gymnasium_ids import clevr_robot  # noqa: E402
from llmrl.methods.kalm import model as kalm_model  # noqa: E402
from llmrl.methods.kalm.model.config import Model  # noqa: E402
from llmrl.methods.kalm.model.network import make  # noqa: E402
from llmrl.methods.kalm.model.tasks import Labelled, Pairs  # noqa: E402
from llmrl.methods.kalm.model.training import Grounder  # noqa: E402
from llmrl.methods.kalm.rollouts import cases  # noqa: E402
from llmrl.methods.kalm.rollouts.imagine import Imagination  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("changes", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    values = yaml.safe_load((conf_root() / "llm_model" / "tiny.yaml").read_text())
    for key, value in (change.split("=", 1) for change in args.changes):
        if key not in values:
            parser.error(f"conf/llm_model/tiny.yaml has no {key}; it has {', '.join(values)}")
        values[key] = yaml.safe_load(value)
    config = checked(Model, values)
    rng = np.random.default_rng(0)
    rollouts = collect(clevr_robot().config, Script(random=0.1, dst=0.75), 480, rng)
    texts, numbers = kalm_model.sentences_of(rollouts)
    gen, words = torch.Generator().manual_seed(0), kalm_model.vocabulary(texts)
    width = encoders.width(config.encoder) if config.goal == "encoder" else None
    model, tokenizer = make(config, words, width, gen)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(tokenizer)} words")
    learners = {}
    for name in ("true", "false") if config.sizes is not None else ("false",):
        begin = time.perf_counter()
        own = replace(config, compile=name)
        learners[name] = Grounder(copy.deepcopy(model), own, updates=10**6, device=torch.device("cpu"))
        if name == "true":
            print(f"compiled in {time.perf_counter() - begin:.0f} s")
    write = kalm_model.writer(config, texts, tokenizer)
    pairs = Pairs(Labelled(rollouts, numbers), write, (0, 1, 3), config.batch_size)
    worded = language.worded("rephrase")
    write = kalm_model.writer(config, worded.texts, tokenizer)
    text, start = cases(len(worded.texts), args.rollouts, rng)

    products: dict[int, list[floor.Product]] = {}  # by the number of positions
    multiplied: list[tuple[int, float]] = []  # of each update of a round: operations, seconds
    rates: list[float] = []

    def train(learner: Grounder, seed: int) -> int:
        """Tokens, states and actions read, padding not counted."""
        read, drawn = 0, np.random.default_rng(seed)
        for _ in range(args.updates):
            batch = pairs.draw(drawn)
            learner.update(batch)
            read += sum(real_positions(group) for part in batch for group in part)
        return read

    def multiply(seed: int) -> int:
        """The products of the blocks in the same updates, padding included, forward and backward; those of attention
        and of what embeds states are left out."""
        read, drawn = 0, np.random.default_rng(seed)
        for _ in range(args.updates):
            batch = pairs.draw(drawn)
            read += sum(real_positions(group) for part in batch for group in part)
            n = sum(rows * length for part in batch for group in part for rows, length in group.sequences.shapes)
            if n not in products:
                h, inner = config.sizes.hidden, config.sizes.intermediate
                sizes = [(h, 3 * h), (h, h), (h, 2 * inner), (inner, h)]
                products[n] = [p for one in sizes for p in floor.forward(n, *one) + floor.of_weights(n, *one)]
                products[n] += [p for one in sizes for p in floor.of_inputs(n, *one)]
            started = time.process_time()
            for _ in range(config.sizes.layers):
                for one in products[n]:
                    one.run()
            multiplied.append(
                (sum(one.flops for one in products[n]) * config.sizes.layers, time.process_time() - started)
            )
        return read

    def imagine(cache: bool) -> int:
        """States and actions written."""
        made = Imagination(model.eval(), write, "base", steps=50, tolerance=0.0, batch=args.rollouts, cache=cache)(
            worded.goals[text], text, start
        )
        return 2 * int(made.lengths.sum())

    contenders = {
        {"true": "training, compiled", "false": "training"}[name]: partial(train, learner)
        for name, learner in learners.items()
    }
    contenders |= {"imagination": lambda seed: imagine(True), "imagination without cache": lambda seed: imagine(False)}
    contenders |= {"products alone": multiply} if config.sizes is not None else {}
    speed: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(args.rounds + 1):
        for name, once in contenders.items():
            multiplied.clear()
            begin = time.process_time()
            done = once(seed)
            seconds = sum(of for _, of in multiplied) or time.process_time() - begin
            speed[name].append(done / seconds)
            rates += [sum(flops for flops, _ in multiplied) / seconds / 1e9] if multiplied else []
    speed = {name: found[1:] for name, found in speed.items()}
    for name, found in speed.items():
        print(f"{name}: {median(found):,.0f} tokens/s (best round {max(found):,.0f})")

    if rates:
        print(f"products alone: {median(rates[1:]):.0f} GFLOP/s")

    def ratio(a: str, b: str) -> float:
        return median(x / y for x, y in zip(speed[a], speed[b]))

    if "training, compiled" in speed:
        print(f"compiled {ratio('training, compiled', 'training'):.2f} times as fast as not")
    if "products alone" in speed:
        best = next(iter(speed))
        print(f"{best}: {ratio('products alone', best):.2f} times as long as its products alone")
    print(f"with the cache {ratio('imagination', 'imagination without cache'):.1f} times as fast as without")


def real_positions(group: object) -> int:
    """Positions of a group that are no padding: in each row up to its last slot, or the last that predicts."""
    s = group.sequences
    ((rows, width),) = s.shapes
    last = np.full(rows, -1)
    for places in (s.state_at, s.action_at, s.vector_at, group.states.at, group.actions.at, group.tokens.at):
        row, position = np.divmod(places.numpy(), width)
        np.maximum.at(last, row, position)
    return int((last + 1).sum())


if __name__ == "__main__":
    main()
