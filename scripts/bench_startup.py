"""How fast the command line answers: the time of `llmrl run --help`, `list` and completion beside `import hydra`.

    python scripts/bench_startup.py

Commands are interleaved, the median of 7 counts. Each line ends in the ratio, which is to stay at or below 2.
"""

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 7
LLMRL = [sys.executable, "-m", "llmrl"]
LINE = "llmrl run env=atari/freeway agent=dqn agent.eps"
COMMANDS = {
    "import hydra": [sys.executable, "-c", "import hydra"],
    "llmrl run --help": [*LLMRL, "run", "--help"],
    "llmrl list": [*LLMRL, "list"],
    "completion": [*LLMRL, "--complete"],
}


def seconds(command: list[str]) -> float:
    """Wall-clock time of one process, from start to end."""
    environment = os.environ | {"COMP_LINE": LINE, "COMP_POINT": str(len(LINE))}
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(ROUNDS + 1):
        for name, command in COMMANDS.items():
            took = seconds(command)
            if number:  # the first round fills the file cache
                times[name].append(took)
    hydra = statistics.median(times["import hydra"])
    for name, took in times.items():
        median = statistics.median(took)
        print(f"{name:<18} {1000 * median:6.0f} ms   ratio to import hydra {median / hydra:.2f}x")


if __name__ == "__main__":
    main()
