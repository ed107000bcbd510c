"""What ExploRLLM's programs cost per env_step, the sandbox's child included: wall clock of the trainer.

A decision is one call: planner, map of the crop (computed once while the crop stays the same), and the drawn pixel.
Printed are single decisions, and the cost per env_step with epsilon 1 (the programs alone) and with the paper's 0.2; on
a busy machine the processor time of both processes says more than the clock.

Usage: python scripts/bench_programs.py [--episodes 200] [--core 1] [--rounds 5]
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import mean, median

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]


def processor_seconds(pid: int) -> float:
    """Of another process so far (Linux), in steps of a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def decisions(horizon: str, episodes: int) -> tuple[list[tuple[str, float]], float]:
    """(place or pick, seconds) of each decision of whole episodes, and the processor time of one in seconds."""
    import numpy as np
    from explore_policy import programs_for

    from llmrl.gymnasium_ids import pick_place
    from llmrl.methods.explorllm.program_policy import DRAWS, ProgramPolicy
    from llmrl.methods.explorllm.programs import choose, chosen
    from llmrl.runs.evaluate import batch_of_one

    env, rng, taken = pick_place(horizon=horizon), np.random.default_rng(0), []
    found = programs_for(env.config)
    with chosen(found, choose(found, "best", "stochastic")) as programs:
        policy = ProgramPolicy(programs, env.config, offset_scale=1.0, sampling="stochastic")
        policy.act(batch_of_one(env.reset(seed=0)[0]), rng.random((1, DRAWS)))  # starts the child
        child = programs._sandbox._child.pid
        cpu, before = 0.0, processor_seconds(child)
        for seed in range(episodes):
            obs, _ = env.reset(seed=seed)
            over = False
            while not over:
                batch, draws = batch_of_one(obs), rng.random((1, DRAWS))
                start, begin = time.perf_counter(), time.process_time()
                action = policy.act(batch, draws)[0]
                cpu += time.process_time() - begin
                taken.append(("place" if action[0] > 0.5 else "pick", time.perf_counter() - start))
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
        cpu += processor_seconds(child) - before
    return taken, cpu / len(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})  # the child with it, before numerical libraries count the cores
    os.environ["OMP_NUM_THREADS"] = "1"
    for horizon in ("short", "long"):
        rounds = [decisions(horizon, args.episodes) for _ in range(args.rounds)]
        means = [1e3 * mean(t for _, t in taken) for taken, _ in rounds]
        middle = {kind: 1e3 * median(t for k, t in rounds[0][0] if k == kind) for kind in ("pick", "place")}
        cpu = 1e3 * median(own for _, own in rounds)
        print(
            f"{horizon:6} median pick {middle['pick']:.2f} ms, place {middle['place']:.2f} ms; per env_step with "
            f"epsilon 1: {median(means):.2f} ms (best round {min(means):.2f}), with 0.2: {0.2 * median(means):.2f} ms; "
            f"processor time {cpu:.2f} and {0.2 * cpu:.2f} ms"
        )


if __name__ == "__main__":
    main()
