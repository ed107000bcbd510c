"""The flags of `llmrl run`: Hydra's, wherever they stand among the overrides."""

import argparse
from typing import NoReturn

from llmrl.checks import ConfigError, nearest

LAUNCHER = "hydra/launcher="
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}. `llmrl run --help` shows the flags.")


def arranged(args: list[str]) -> list[str]:
    """The same with all flags first, as Hydra wants them. Raises ConfigError for a flag that there is not."""
    parser = _Parser("llmrl run", add_help=False, allow_abbrev=False)
    known = [
        parser.add_argument("-m", "--multirun", action="store_true"),
        parser.add_argument("-r", "--run", action="store_true"),
        parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all")),
        parser.add_argument("-p", "--package"),
        parser.add_argument("--resolve", action="store_true"),
        parser.add_argument("-i", "--info", nargs="?", const="all", choices=INFO),
        parser.add_argument("--hydra-help", action="store_true"),
        parser.add_argument("-cd", "--config-dir"),
    ]
    args = [f"{flag}=all" if flag in ("-i", "--info") and after not in INFO else flag
            for flag, after in zip(args, [*args[1:], ""])]  # fmt: skip
    args = [arg.replace("-i=", "--info=") if arg == "-i=all" else arg for arg in args]
    given, rest = parser.parse_known_args(args)
    if unknown := [arg for arg in rest if arg.startswith("-")]:
        names = [name for action in known for name in action.option_strings]
        near = " It stands alone: llmrl run --from <run directory>." if unknown[0] == "--from" else None
        raise ConfigError(f"command line: there is no flag {unknown[0]}.{near or nearest(unknown[0], names)}")
    if given.resolve and not given.cfg:
        raise ConfigError("command line: --resolve goes with --cfg")
    if sum((given.multirun, given.run, given.cfg is not None, given.info is not None)) > 1:
        raise ConfigError("command line: only one of --multirun, --run, --cfg and --info")
    flags: list[str] = []
    for action in known:
        value = getattr(given, action.dest)
        if value is True:
            flags.append(action.option_strings[-1])
        elif value not in (None, False):
            flags.append(f"{action.option_strings[-1]}={value}")
    return [*flags, *rest]


def without_launcher(args: list[str]) -> tuple[list[str], list[str]]:
    """(the other arguments, those that choose and set a launcher of ours): Hydra knows its own and plug-ins' alone."""
    ours = [arg for arg in args if arg.startswith((LAUNCHER, "hydra.launcher."))]
    if not any(arg.startswith(LAUNCHER) and arg != f"{LAUNCHER}basic" for arg in ours):
        return args, []
    return [arg for arg in args if arg not in ours], ours
