"""The command line: which word means what. Light, so that help, `list` and completion answer at once.

`run` is llmrl/run.py; every other command is the module of its name in llmrl/commands/, with `main(args) -> exit code`
and a docstring that is its help.
"""

import importlib
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded; torch's threads are compute.threads

COMMANDS = {
    "run": "train; the same command goes on where it was interrupted (-m sweeps)",
    "check": "try in seconds whether a run would work: 20 env_steps, an update, a checkpoint",
    "list": "what there is to choose from",
    "eval": "play more evaluation episodes of a run, or film one",
    "status": "how all runs below a directory stand",
    "plan": "the runs of a paper's table: done, missing, what they cost; --run makes them",
    "table": "a paper's table from the runs on disk, beside the published numbers",
    "plot": "learning curves, bars, profiles and the LLM's exploration, as png and pdf",
    "report": "one html page about a study",
    "doctor": "what is installed here, what is missing, and what would help",
    "completion": "print the tab completion for bash or zsh",
}
BAD_INPUT, CTRL_C, BROKEN_PIPE = 2, 130, 141


def main(args: list[str] | None = None) -> int:
    """Carries out `args` (sys.argv without the program where None) and returns the exit code."""
    try:
        code = _dispatch(sys.argv[1:] if args is None else args)
        if args is None and code >= 128:  # an LLM call may still be waiting in its thread, and would hold up the exit
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code
    except KeyboardInterrupt:
        return CTRL_C
    except BrokenPipeError:  # whoever read us has seen enough: llmrl list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
        return BROKEN_PIPE


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
    if command == "run":
        from llmrl.run import main as run

        return run(rest)
    return importlib.import_module(f"llmrl.commands.{command}").main(rest)


def _unknown(command: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
    hint = f"Did you mean `llmrl {near[0]}`?" if near else f"There are: {', '.join(COMMANDS)}."
    if "=" in command:  # an override without its command
        hint = f"Did you mean `llmrl run {command}`?"
    print(f"llmrl: there is no command `{command}`. {hint}", file=sys.stderr)
    return BAD_INPUT


def compose(overrides: list[str]) -> dict:
    """What `llmrl run <overrides>` would run, as plain containers with `choices`. Raises ConfigError."""
    import hydra
    from omegaconf import open_dict

    from llmrl.checks import ConfigError
    from llmrl.conf_files import conf_root, extend_packages
    from llmrl.hydra_errors import explain, plain
    from llmrl.run import search_path

    extend_packages()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_root())):
            node = hydra.compose("run", [*overrides, *search_path()], return_hydra_config=True)
    except Exception as error:  # also of yaml, and what Hydra itself does not expect
        raise ConfigError(explain(error, overrides)) from error
    chosen = node.hydra.runtime.choices
    with open_dict(node):
        del node["hydra"]
    return plain(node, chosen)
