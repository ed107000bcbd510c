"""Evaluation of a goal task in several processes: seconds for the episodes of AntMaze with one process and with two.

    python scripts/bench_evaluation.py [--episodes 50] [--max-steps 700] [--env robotics/ant_maze_open]

An untrained TD3 acts. Processes are started and warmed by a few episodes first, as they are once in a run.
"""

import argparse
import time
from functools import partial

from llmrl import build
from llmrl.config import from_node
from llmrl.hydra_compose import compose
from llmrl.loops.evaluation_pool import EvaluationPool
from llmrl.runs.evaluate import cases, evaluate
from llmrl.runs.stop import Stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--max-steps", type=int, default=700)
    parser.add_argument("--env", default="robotics/ant_maze_open")
    args = parser.parse_args()
    config = from_node(compose(["agent=td3", f"env={args.env}", f"eval.max_steps={args.max_steps}"]))
    env, agent, act, max_steps = build.evaluation_worker(config)
    suite = cases(0, "eval", args.episodes)
    pool = EvaluationPool(partial(build.evaluation_worker, config), 2)
    pool.evaluate(agent, suite[:4], Stop())
    begin = time.perf_counter()
    one = evaluate(act, env, suite, max_steps, Stop())
    middle = time.perf_counter()
    two = pool.evaluate(agent, suite, Stop())
    end = time.perf_counter()
    pool.close()
    assert one.row() == two.row()
    seconds, seconds_2 = middle - begin, end - middle
    print(
        f"{args.episodes} episodes of {args.env}, {sum(one.lengths):,} env_steps: one process {seconds:.1f} s, "
        f"two {seconds_2:.1f} s, ratio {seconds_2 / seconds:.2f}; equal returns"
    )


if __name__ == "__main__":
    main()
