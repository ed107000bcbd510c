"""A process that carries out one run after the other: `plan --run` starts one for each slot, so that importing torch is
paid once and not for every run; a combination of overrides is composed once, whatever the number of its seeds.

Each line of stdin is the arguments of an `llmrl run`, as a JSON list. What the run prints goes to stdout, and behind it
a line of its own: the mark, which is the process's argument, and the exit code. The runs follow each other as those of
a sweep do, `llmrl run -m`; nothing forks, and no lock outlives its run.
"""

import json
import sys

from llmrl.cli import main
from llmrl.sweep import composed_once


def serve(mark: str) -> None:
    with composed_once():
        for line in sys.stdin:
            try:
                code: object = main(["run", *json.loads(line)])
            except SystemExit as end:
                code = end.code
            sys.stdout.write(f"\n{mark} {code if isinstance(code, int) else 1}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
