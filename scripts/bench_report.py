"""How long reports take: 50,000 bootstrap repetitions of a 26 x 5 table, and loading many run directories.

    python scripts/bench_report.py [--runs 10000] [--evaluations 200] [--keep DIR]

Writes made-up run directories (10,000 of them take about 1 GB) into a temporary directory, or into DIR, where a second
call finds them again. Prints seconds, seconds of CPU (on a busy machine they say more), and the memory of this process
and of its largest helper process.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from llmrl.report import stats  # noqa: E402
from llmrl.report.store.index import SETTLED_S  # noqa: E402
from llmrl.report.store.loading import load  # noqa: E402

VARIANTS = 50  # of evaluation files; the runs take turns
EPISODES = 10


def eval_file(rng: np.random.Generator, evaluations: int) -> bytes:
    rows = []
    for i in range(evaluations):
        returns = rng.normal(3000, 500, EPISODES)
        row = {"env_steps": 5000 * i, "updates": 5000 * i, "policy": "greedy", "return_mean": float(returns.mean())}
        row |= {"returns": returns.tolist(), "lengths": rng.integers(1, 1000, EPISODES).tolist(), "capped": 0}
        rows.append(json.dumps(row))
    return ("\n".join(rows) + "\n").encode()


def training_file(rng: np.random.Generator, episodes: int = 300) -> bytes:
    rows = [
        {"kind": "episode", "env_steps": 500 * i, "updates": 0, "episodes": i, "number": i, "return": x, "length": 500}
        for i, x in enumerate(rng.normal(3000, 500, episodes).tolist(), start=1)
    ]
    return ("\n".join(map(json.dumps, rows)) + "\n").encode()


def make_runs(outputs: Path, runs: int, evaluations: int) -> None:
    """Writes run directories as `llmrl run` leaves them when it is done."""
    rng = np.random.default_rng(0)
    end = 5000 * (evaluations - 1)
    variants = [(eval_file(rng, evaluations), training_file(rng)) for _ in range(VARIANTS)]
    timing = "".join(f'{{"env_steps": {i}, "env_steps_per_s": {100 + i % 7}.5, "time": {i}.0}}\n' for i in range(300))
    choices = {"method": "vanilla", "agent": "td3", "env": "mujoco/hopper", "llm": "scripted"}
    config = {"choices": choices, "agent": {f"hyper_parameter_{i}": i / 7 for i in range(40)}, "study": "bench"}
    status = {"status": "DONE", "env_steps": end, "target_env_steps": end, "pid": 1, "host": "bench"}
    start = {"code": {"version": "0", "commit": "0" * 40}, "packages": {f"package{i}": "1.2.3" for i in range(11)}}
    result = {"env_steps": end, "updates": end, "episodes": 300}
    for i in range(runs):
        directory = outputs / "bench" / "vanilla-td3" / "mujoco-hopper" / f"s{i}-{i:08x}"
        directory.mkdir(parents=True)
        for name, value in (
            ("config", config | {"seed": i}),
            ("identity", config | {"seed": i}),
            ("status", status),
            ("versions", {"starts": [start]}),
            ("result", result),
        ):
            (directory / f"{name}.json").write_text(json.dumps(value, indent=2))
        evals, training = variants[i % VARIANTS]
        (directory / "eval.jsonl").write_bytes(evals)
        (directory / "metrics.jsonl").write_bytes(training)
        (directory / "timing.jsonl").write_text(timing)


def timed(what: str, call: Callable[[], Any]) -> Any:
    start, before = time.perf_counter(), os.times()
    value = call()
    seconds, after = time.perf_counter() - start, os.times()
    cpu = sum(after[:4]) - sum(before[:4])  # user and system, of this process and its helpers
    own, helper = (resource.getrusage(w).ru_maxrss / 1024 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{what:<52} {seconds:7.2f} s   cpu {cpu:6.2f} s   {own:5.0f} MB, helper {helper:4.0f} MB", flush=True)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="make the run directories here, and leave them")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    scores = {f"task{i}": rng.normal(size=5) for i in range(26)}
    for name in stats.STATISTICS:
        timed(f"bootstrap 50,000 x {name}, 26 tasks x 5 runs", lambda name=name: stats.bootstrap(scores, name, seed=0))
    outputs = args.keep or Path(tempfile.mkdtemp(prefix="llmrl-bench-"))
    try:
        if not (outputs / "bench").exists():
            make_runs(outputs, args.runs, args.evaluations)
            time.sleep(SETTLED_S)  # younger files are not indexed
        shutil.rmtree(outputs / ".index", ignore_errors=True)
        for what in ("first load", "second load, with the index"):
            records = timed(f"{what} of {args.runs:,} runs", lambda: load(outputs))
        assert len(records) == args.runs and all(r.evals.returns.shape == (args.evaluations, EPISODES) for r in records)
    finally:
        if not args.keep:
            shutil.rmtree(outputs)


if __name__ == "__main__":
    main()
