"""What a program has registered with api.register: methods, agents and suites of environments without files. They live
in this process. Imports nothing heavy, as conf_files does, which lists their names."""

from collections.abc import Mapping
from types import ModuleType

KINDS = ("method", "agent", "env")
MODULES: dict[tuple[str, str], ModuleType] = {}  # (kind, choice) -> what holds its Config and exports its class
ELSEWHERE = "What a program registers with api.register is known in its own process alone."


def names(kind: str) -> list[str]:
    return [name for group, name in MODULES if group == kind]


def module(kind: str, name: str) -> ModuleType | None:
    """The module of a registered method or agent, or of a suite by its own name; None where there is none."""
    if kind != "env":
        return MODULES.get((kind, name))
    return next((module for (group, env), module in MODULES.items() if group == kind and suite(env) == name), None)


def suite(env: str) -> str:
    """classic/cart_pole -> classic"""
    return env.partition("/")[0]


def check_known_to_children(choices: Mapping[str, str], needed_by: str) -> None:
    """Raises ConfigError where these choices cannot be handed to another process, which `needed_by` would do."""
    if chosen := [f"{kind}={choices[kind]}" for kind in KINDS if (kind, choices.get(kind)) in MODULES]:
        from llmrl.checks import ConfigError  # pydantic: not for `list` and completion

        raise ConfigError(
            f"{', '.join(chosen)}: registered in this process alone (api.register), but {needed_by} needs processes of "
            "its own, which do not know it. Give it files below LLMRL_PATH (docs/concepts.md, Adding to it)."
        )
