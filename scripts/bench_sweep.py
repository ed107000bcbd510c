"""What many runs cost beside their training.

    python scripts/bench_sweep.py [--finished 1000] [--runs 40] [--only files|compose|plan|finished|run]

finished  `llmrl run -m` over runs that are all finished, made as copies of one: seconds for 1,000 (aim: 60)
plan      `llmrl plan` of the table with the most runs: seconds (aim: 3)
compose   a run of each of six presets, by hydra.compose and by ours, which keeps what it has read
run       `plan --run -j 2` of tiny runs: CPU seconds beside those of the same runs in one process (aim: 1.5 times)
files     files that one run opens, ours (llmrl/, conf/, its directory) and all others (aim: 300 of ours)

Seconds are of CPU where another process may be at work, with wall-clock seconds behind them.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LLMRL = [sys.executable, "-m", "llmrl"]
TINY = ["method=vanilla", "agent=dqn", "agent.hidden=[16]", "agent.hidden_after_convolutions=[16]",
        "agent.batch_size=8", "agent.learning_starts=10", "agent.random_steps=5", "env=classic/cart_pole",
        "budget.env_steps=60", "eval.every=30", "eval.episodes=2", "eval.max_steps=20",
        "log.progress=false"]  # fmt: skip
MANY = 500
OPENED = """
import os, sys
opened, root = [], sys.argv[1]
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from llmrl.cli import main
main(["run", *sys.argv[2:]])
ours = [p for p in opened if os.path.abspath(p).startswith((root + "/llmrl", root + "/conf", os.getcwd()))]
print("FILES", len(ours), len(opened) - len(ours))
"""


def measured(command: list[str], cwd: Path) -> tuple[float, float, str]:
    """CPU seconds of a process and its children, wall-clock seconds, and what it printed."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all of llmrl
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start, done.stdout


def copies(first: Path, overrides: list[str], seeds: range) -> None:
    """Finished runs of other seeds, as the run in `first`."""
    from llmrl.commands.cells import identify

    config = json.loads((first / "config.json").read_text())
    for run in identify(overrides, seeds):
        path = first.parents[4] / run.path
        if not path.exists():
            shutil.copytree(first, path)
            (path / "config.json").write_text(json.dumps(config | {"seed": run.seed}))
            (path / "identity.json").write_text(json.dumps(run.identity))


def finished(folder: Path, n: int) -> None:
    measured([*LLMRL, "run", *TINY], folder)
    (first,) = (path.parent for path in folder.rglob("identity.json"))
    copies(first, TINY, range(n))
    cpu, wall, out = measured([*LLMRL, "run", "-m", *TINY, f"seed=range(0,{n})"], folder)
    assert out.count("Done before") == n, out[-1000:]
    print(f"-m over {n:,} finished runs: {cpu:.1f} s of CPU ({wall:.1f} s); {1000 * cpu / n:.1f} s for 1,000")


def plan(folder: Path) -> None:
    from llmrl.conf_files import group_file, options
    from llmrl.report.tables.definition import read

    sizes = {}
    for name in options("table"):
        table = read(group_file("table", name))
        sizes[name] = len(table.rows) * len(table.columns) * len(table.seeds)
    name = max(sizes, key=sizes.get)
    cpu, wall, _ = measured([*LLMRL, "plan", name], folder)
    print(f"plan {name} ({sizes[name]} runs): {cpu:.2f} s of CPU ({wall:.2f} s)")


def compose(folder: Path) -> None:
    import hydra

    from llmrl.hydra_session import composed, session

    def by_hydra(overrides: list[str]) -> None:
        with session():
            hydra.compose("run", overrides, return_hydra_config=True)

    presets = ("quickstart", "lesr/hopper", "eureka/half_cheetah", "kalm/clevr", "explorllm/guided",
               "llm_explorer/mujoco_ddpg")  # fmt: skip
    spent = {}
    for way in (by_hydra, composed):
        way([f"experiment={presets[0]}"])
        begin = time.process_time()
        for seed in range(3):
            for preset in presets:
                way([f"experiment={preset}", f"seed={seed}"])
        spent[way] = (time.process_time() - begin) / (3 * len(presets))
    print(f"composing a run: {1000 * spent[by_hydra]:.0f} ms of CPU by hydra.compose, {1000 * spent[composed]:.0f} ms "
          f"by ours: ratio {spent[composed] / spent[by_hydra]:.2f}")  # fmt: skip


def run(folder: Path, n: int) -> None:
    lab = folder / "lab" / "conf" / "table" / "lab"
    lab.mkdir(parents=True)
    (lab / "tiny.yaml").write_text(json.dumps({
        "title": "tiny", "base": TINY[:-1], "rows": {"a": []}, "columns": {"b": []}, "seeds": [0], "score": "last",
        "metric": "return"}))  # fmt: skip
    os.environ["LLMRL_PATH"] = str(folder / "lab")
    begin, cost = 0, {}
    for size in (n // 4, n):
        seeds, others = f"seed=range({begin},{begin + size})", f"{begin + size}-{begin + 2 * size - 1}"
        begin += 2 * size  # no run is there before
        alone, wall, _ = measured([*LLMRL, "run", "-m", *TINY, seeds, f"study=alone{size}"], folder)
        side, wall_side, out = measured([*LLMRL, "plan", "lab/tiny", "--seeds", others, "--run", "-j", "2"], folder)
        assert f"{size} done" in out, out[-1000:]
        print(f"{size} tiny runs: {alone:.1f} s of CPU in one process ({wall:.1f} s), {side:.1f} s with "
              f"plan --run -j 2 ({wall_side:.1f} s): ratio {side / alone:.2f}", flush=True)  # fmt: skip
        cost[size] = alone, side
    # what is paid once, imports and composing, is a large part of so few
    alone, side = (b + (b - a) / (n - n // 4) * (MANY - n) for a, b in zip(cost[n // 4], cost[n]))
    print(f"{MANY} by what a further run costs: {alone:.0f} s and {side:.0f} s: ratio {side / alone:.2f}")


def files(folder: Path) -> None:
    measured([sys.executable, "-c", OPENED, str(ROOT), *TINY, "seed=1"], folder)  # compiles what nobody has yet
    _, _, out = measured([sys.executable, "-c", OPENED, str(ROOT), *TINY], folder)
    ours, others = out.splitlines()[-1].split()[1:]
    print(f"one run opens {ours} files of ours, {others} of others")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--only", choices=("files", "compose", "plan", "finished", "run"))
    given = parser.parse_args()
    parts = {
        "files": (files,),
        "compose": (compose,),
        "plan": (plan,),
        "finished": (finished, given.finished),
        "run": (run, given.runs),
    }
    for name, (part, *arguments) in parts.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder), *arguments)


if __name__ == "__main__":
    main()
