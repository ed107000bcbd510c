"""What an LLM that takes 5 s an answer costs a training: with none, with method.asynchronous=true, and with waiting.

A small TD3 on HalfCheetah, and a server on loopback that answers after --seconds. A refresh is two answers in turn.
Counted from the first env_step to the last, with litellm loaded before, which else takes some seconds once in a run.
Where other processes want the cores too, the ratio of seconds says little; that of CPU seconds (of all threads, with
the start of the run) tells what is computed in addition.

Usage: python scripts/bench_async.py [--env-steps 6000] [--seconds 5] [--repeat 3]
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from llm_server import Server  # noqa: E402

from llmrl import run  # noqa: E402
from llmrl.llm import client  # noqa: E402
from llmrl.runs.files import read_json, read_jsonl  # noqa: E402

ANSWER = "{" + ", ".join(f'"{i}": 0.01' for i in range(6)) + "}"  # the same whatever is asked
ARMS = {
    "no LLM": ["method=vanilla"],
    "asynchronous": ["method=llm_explorer", "method.asynchronous=true"],
    "waiting": ["method=llm_explorer"],
}


def train(arm: str, env_steps: int, url: str) -> tuple[float, float, int]:
    """Seconds and CPU seconds of a training, and the refreshes that took effect in it."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*ARMS[arm], "agent=td3", "agent.hidden=[64,64]", "agent.batch_size=64", "agent.learning_starts=500",
                 "agent.random_steps=500", "env=mujoco/half_cheetah", f"budget.env_steps={env_steps}",
                 f"eval.every={env_steps}", "eval.episodes=1", "eval.max_steps=10", "llm=openai_compatible",
                 "llm.model=bench", f"llm.api_base={url}", "log.progress=false",
                 f"compute.outputs={folder}"]  # fmt: skip
        cpu_seconds = -time.process_time()
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            code = run.main(words)
        cpu_seconds += time.process_time()
        if code != 0:
            raise SystemExit(f"llmrl run {' '.join(words)} ended with {code}")
        (directory,) = [path.parent for path in Path(folder).rglob("result.json")]
        times = [row["time"] for row in read_jsonl(directory / "timing.jsonl") if "time" in row]
        refreshes = read_json(directory / "result.json").get("llm_explorer", {}).get("refreshes", 0)
        return times[-1] - times[0], cpu_seconds, refreshes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-steps", type=int, default=6000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    client._litellm()
    with Server(ANSWER) as server:  # the first run of a process and its first call load more than the others do
        train("asynchronous", 1200, server.url)
    found: dict[str, list[tuple[float, float, int]]] = {arm: [] for arm in ARMS}
    with Server(ANSWER) as server:
        server.on_request = lambda: server.closing.wait(args.seconds) and None
        for _ in range(args.repeat):  # the arms take turns, since what else runs on the machine changes
            for arm in ARMS:
                found[arm].append(train(arm, args.env_steps, server.url))
                print("  {}: {:.1f} s, {:.1f} CPU s".format(arm, *found[arm][-1]), flush=True)
    for arm, runs in found.items():
        ratio, of_cpu = (median(run[i] / base[i] for run, base in zip(runs, found["no LLM"])) for i in (0, 1))
        seconds = median(run[0] for run in runs)
        print(f"{arm:13} {seconds:6.1f} s   ratio {ratio:.3f}   CPU ratio {of_cpu:.3f}   refreshes {runs[-1][2]}")


if __name__ == "__main__":
    main()
