"""Methods, agents and suites of environments that a program brings without files: api.register."""

import dataclasses
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from llmrl import registered
from llmrl.checks import ConfigError, nearest
from llmrl.conf_files import group_file, options, shown
from llmrl.config.plugins import exported, has_suite
from llmrl.contracts.method import Method

NAMES = {"method": r"[a-z]\w*(/[a-z]\w*)?", "agent": r"[a-z]\w*", "env": r"[a-z]\w*(/[a-z]\w*)?"}
ORIGINS: dict[tuple[str, str], str] = {}  # what was registered, by its name in Python


def register(kind: str, name: str, given: Any, config: Mapping[str, Any]) -> None:
    """See api.register."""
    from llmrl.hydra_session import LOCK, store

    if kind not in registered.KINDS:
        raise ConfigError(f"register: there is no kind `{kind}`.{nearest(str(kind), registered.KINDS)}")
    if not isinstance(name, str) or not re.fullmatch(NAMES[kind], name, re.ASCII | re.IGNORECASE):
        example = "lab/corridor" if kind == "env" else "mine"
        raise ConfigError(f"register: {name!r} is no name for {kind}=…: letters, digits and _, such as `{example}`")
    module = _module_of(kind, name, given)
    values = _of_env(name, config) if kind == "env" else dict(config)
    with LOCK:
        _check_free(kind, name, given)
        store(kind, name, values)
        registered.MODULES[kind, name], ORIGINS[kind, name] = module, _origin(given)


def _module_of(kind: str, name: str, given: Any) -> ModuleType:
    """The module, or one that holds what the class does. Raises ConfigError with what it lacks."""
    told = f"{kind}={name}"
    if isinstance(given, ModuleType):
        module = given
    elif isinstance(given, type):
        module = ModuleType(f"{told} (registered)")
        for attribute in dir(given) if kind == "env" else ["Config"]:
            if not attribute.startswith("_") and hasattr(given, attribute):
                setattr(module, attribute, getattr(given, attribute))
        setattr(module, kind.upper(), given)
    else:
        raise ConfigError(f"{told}: takes a class or a module, not {given!r}")
    if kind == "env":
        if not callable(getattr(module, "make", None)):
            raise ConfigError(f"{told}: {given.__name__} lacks make(config, role, *, render=False) -> gymnasium.Env")
    else:
        contract = _contract(kind)
        if isinstance(given, type) and not issubclass(given, contract):
            needed = f"{contract.__module__}.{contract.__name__}"
            raise ConfigError(f"{told}: {given.__name__} must derive from {needed}")
        exported(module, kind, contract)
    own = getattr(module, "Config", None)
    if not isinstance(own, type) or not dataclasses.is_dataclass(own):
        raise ConfigError(f"{told}: {given.__name__} lacks Config, the frozen dataclass that checks its keys")
    return module


def _contract(kind: str) -> type:
    if kind == "method":
        return Method
    from llmrl.contracts.agent import Agent  # torch

    return Agent


def _of_env(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values with suite and task, which a yaml has by `defaults`."""
    from llmrl.contracts.env import Task

    values = {"suite": registered.suite(name), **config}
    if "defaults" not in values:
        nothing = dict.fromkeys(field.name for field in dataclasses.fields(Task))
        values["task"] = nothing | {"name": name} | values.get("task", {})
    return values


def _check_free(kind: str, name: str, given: Any) -> None:
    """Raises ConfigError where something else has the name."""
    known, origin = ORIGINS.get((kind, name)), _origin(given)
    if known is None and name in options(kind):
        file = group_file(kind, name)
        raise ConfigError(f"{kind}={name} is taken, by {shown(file) if file else 'a file'}: register another name")
    if known not in (None, origin):
        raise ConfigError(f"{kind}={name} is taken, by {known}: register another name")
    if kind == "env":
        suite = registered.suite(name)
        others = {ORIGINS[key] for key in ORIGINS if key[0] == kind and registered.suite(key[1]) == suite} - {origin}
        if others or has_suite(suite):
            by = others.pop() if others else f"llmrl.envs.{suite}"
            raise ConfigError(f"env={name}: the suite `{suite}` is taken, by {by}: register another name")


def _origin(given: Any) -> str:
    """A class by its name: who runs a notebook's cell again makes another class of the same name."""
    return given.__name__ if isinstance(given, ModuleType) else f"{given.__module__}.{given.__qualname__}"
