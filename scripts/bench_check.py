"""CPU seconds of `llmrl check` for each preset, each in a process of its own, and how many of them are above 15.

.venv/bin/python scripts/bench_check.py [preset …]
"""

import resource
import subprocess
import sys

from llmrl.conf_files import options

LIMIT_S = 15.0


def cpu_seconds(preset: str) -> tuple[float, str]:
    """Of the command and its children; and its last line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "llmrl", "check", f"experiment={preset}"], capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["?"])[-1]


def main(presets: list[str]) -> None:
    above = 0
    for preset in presets or options("experiment"):
        used, problem = cpu_seconds(preset)
        above += used > LIMIT_S
        print(f"{used:6.1f} s  {preset}  {problem}", flush=True)
    print(f"{above} above {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
