"""The command line: which word means what. Light, so that help, `list` and completion answer at once.

`run` is llmrl/run.py; every other command is the module of its name in llmrl/commands/, with `main(args) -> exit code`
and a docstring that is its help.
"""

import importlib
import os
import sys

from llmrl.commands import COMMANDS
from llmrl.streams import Streams
from llmrl.waiting import WAITING

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded; torch's threads are compute.threads

# they do something; of all others the product is what they print
WORK = ("run", "cancel", "check", "probe", "eval", "tune", "plot", "report", "view")
ONLY_TELL = ("--help", "-h", "--cfg", "-c", "--info", "-i", "--hydra-help")
FAILURE, BAD_INPUT, TRY_LATER, CTRL_C = 1, 2, 75, 130


def main(args: list[str] | None = None) -> int:
    """Carries out `args` (sys.argv without the program where None) and returns the exit code."""
    own_process = args is None
    args = sys.argv[1:] if args is None else args
    prints = _prints(args)
    streams = Streams(patient=prints)
    if own_process and args:
        WAITING.begin(args[0])
    try:
        code = _dispatch(args)
        if prints and code == 0 and (error := streams.lost()):
            print(f"llmrl: not all of it could be written to stdout: {error.strerror}", file=sys.stderr)
            code = FAILURE
        if own_process and code >= 128:  # an LLM call may still be waiting in its thread, and would hold up the exit
            WAITING.end()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code
    except KeyboardInterrupt:
        return CTRL_C
    finally:
        WAITING.end()
        if not own_process:  # else they stay to the very end, for what is printed at exit
            streams.give_back()


def _prints(args: list[str]) -> bool:
    """Whether what the command prints is its product; a command that works goes on whatever becomes of its output."""
    works = args and (args[0] in WORK or (args[0] == "plan" and {"--run", "--submit"} & set(args)))
    return not works or any(arg.partition("=")[0] in ONLY_TELL for arg in args)


def _dispatch(args: list[str]) -> int:
    command, rest = (args[0], args[1:]) if args else ("--help", [])
    if command == "--complete":
        from llmrl.commands.completion import complete_line

        return complete_line()
    if command == "--version":
        from llmrl import __version__

        print(f"llmrl {__version__}")
        return 0
    if command in ("--help", "-h", "help"):
        from llmrl.commands.help import overview

        print(overview(COMMANDS))
        return 0
    if command not in COMMANDS:
        return _unknown(command)
    if {"--help", "-h"} & set(rest):
        from llmrl.commands.help import of_command

        print(of_command(command))
        return 0
    from llmrl.conf_files import extra_roots

    if gone := [root for root in extra_roots() if not root.is_dir()]:
        print(f"LLMRL_PATH: there is no directory {gone[0]} (several are separated by `:`, so no name can hold one)",
              file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    if command == "run":
        from llmrl.run import main as run

        return run(rest)
    from llmrl.runs.files import DiskError
    from llmrl.runs.stop import Paused

    try:
        return importlib.import_module(f"llmrl.commands.{command}").main(rest)
    except DiskError as error:
        print(f"llmrl {command}: {error.filename} cannot be written: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except Paused as error:  # what an id depends on cannot be reached: weights on a hub
        print(f"llmrl {command}: {error}", file=sys.stderr)
        return TRY_LATER


def _unknown(command: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
    hint = f"Did you mean `llmrl {near[0]}`?" if near else f"There are: {', '.join(COMMANDS)}."
    if "=" in command:  # an override without its command
        hint = f"Did you mean `llmrl run {command}`?"
    print(f"llmrl: there is no command `{command}`. {hint}", file=sys.stderr)
    return BAD_INPUT
