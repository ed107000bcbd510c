"""A name is the wiring: what conf/<group>/<name>.yaml belongs to, here or below LLMRL_PATH, or what was registered."""

import importlib.util
import reprlib
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from llmrl import registered
from llmrl.agents.configs import CONFIGS
from llmrl.checks import ConfigError, nearest, raised
from llmrl.conf_files import options
from llmrl.config.schema import OWN, Config, NoWrapper
from llmrl.contracts.method import Method

if TYPE_CHECKING:
    from llmrl.contracts.agent import Agent
    from llmrl.contracts.env import Wrapper

T = TypeVar("T")
PLACES = {  # of modules that do not lie in a package of their group's name
    "method": ("llmrl.methods.{}.method", "llmrl.methods.plain.{}", "llmrl.methods.{}"),
    "wrapper": ("llmrl.methods.{}.wrapper",),
}


def module_of(group: str, name: str) -> ModuleType:
    """A name is the wiring: conf/agent/td3.yaml is llmrl/agents/td3.py, and method=kalm/data is methods/kalm/data.py.
    A paper's folder has its method in method.py and its wrapper in wrapper.py; methods of no paper lie in
    methods/plain. A registered one is what api.register was given. Raises ConfigError where there is none."""
    if (known := registered.module(group, str(name))) is not None:
        return known
    places = [place.format(str(name).replace("/", ".")) for place in PLACES.get(group, (f"llmrl.{group}s.{{}}",))]
    found = next((module for module in places if _exists(module)), None)
    if found is None:
        raise ConfigError(
            f"{group}: there is no module {places[-1]} for `{name}`, here or below LLMRL_PATH. {registered.ELSEWHERE}"
        )
    try:
        return importlib.import_module(found)
    except Exception as error:
        raise ConfigError(f"{group}: the module {found} cannot be imported: {raised(error)}") from error


def _exists(module: str) -> bool:
    """Whether there is such a module; a name that is none, or lies in what is no package, is none."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    folder = ".".join(parts[:-1])
    if folder.count(".") >= 2 and not _exists(folder):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a module, where a package would have to be
        return False


def suite_of(name: Any) -> ModuleType:
    """The module of a suite of environments. Raises ConfigError where `name` names none."""
    if isinstance(name, str) and name.isidentifier() and (registered.module("env", name) or has_suite(name)):
        module = module_of("env", name)
        if hasattr(module, "Config") and hasattr(module, "make"):
            return module
        raise ConfigError(f"env.suite: {source_of(module)} is no suite of environments: it must define Config and make")
    there = {registered.suite(choice) for choice in options("env")}
    raise ConfigError(
        f"env.suite: there is no suite {reprlib.repr(name)}.{nearest(str(name), there)} {registered.ELSEWHERE}"
    )


def has_suite(name: str) -> bool:
    """Whether a suite of this name has a module, here or below LLMRL_PATH."""
    return importlib.util.find_spec(f"llmrl.envs.{name}") is not None


def method_of(name: str) -> type[Method]:
    """The class that conf/method/<name>.yaml belongs to. Raises ConfigError where its module exports none."""
    return _exported("method", name, Method)


def agent_of(name: str) -> "type[Agent]":
    """The class that conf/agent/<name>.yaml belongs to. Raises ConfigError where its module exports none."""
    from llmrl.contracts.agent import Agent  # torch

    return _exported("agent", name, Agent)


def wrapper_of(name: str) -> "type[Wrapper]":
    """The class that conf/wrapper/<name>.yaml belongs to. Raises ConfigError where its module exports none."""
    from llmrl.contracts.env import Wrapper  # gymnasium

    return _exported("wrapper", name, Wrapper)


def wrapped(config: Config, wrapper: Any) -> Config:
    """The run in an environment with `wrapper`, the Config of a module methods/<name>/wrapper.py."""
    name = type(wrapper).__module__.removeprefix("llmrl.methods.").removesuffix(".wrapper").replace(".", "/")
    return replace(config, wrapper=wrapper, choices=config.choices | {"wrapper": name})


def _exported(group: str, name: str, contract: type) -> Any:
    return exported(module_of(group, name), group, contract)


def exported(module: ModuleType, group: str, contract: type) -> Any:
    """The class that the module exports for its group. Raises ConfigError where it is none, or lacks something."""
    export, needed = group.upper(), f"{contract.__module__}.{contract.__name__}"
    found, where = getattr(module, export, None), source_of(module)
    if not isinstance(found, type) or not issubclass(found, contract):
        raise ConfigError(f"{where} must export its class: {export} = <a class that derives from {needed}>")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ConfigError(f"{where}: {found.__name__} lacks what {needed} asks for: {', '.join(missing)}")
    return found


def source_of(module: ModuleType) -> str:
    """Where a module's text is, for messages; its name where it has no file."""
    return getattr(module, "__file__", None) or module.__name__


def config_of(group: str, name: str) -> type:
    """The dataclass that checks the keys of a choice; of our own agents without their modules, which import torch.
    Raises ConfigError where there is none."""
    if group == "agent" and name in CONFIGS and registered.module(group, name) is None:
        return CONFIGS[name]
    return module_of(group, name).Config


def config_classes(choices: dict[str, str], suite: Any) -> dict[str, type]:
    """The dataclass that checks each group."""
    from llmrl.llm import client

    classes: dict[str, type] = {g: config_of(g, choices[g]) for g in ("method", "agent")}
    classes["env"] = suite_of(suite).Config
    wrapper = choices.get("wrapper", "none")
    classes["wrapper"] = NoWrapper if wrapper == "none" else config_of("wrapper", wrapper)
    return classes | {"llm": client.Config} | OWN
