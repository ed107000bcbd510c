"""From a composed Hydra node to frozen, checked dataclasses, and from those to the run's identity.

Values live in conf/, types and checks in the dataclass of the module that reads them. Everything that is wrong is said
at once, with its key, its file and the nearest valid name.
"""

import dataclasses
import importlib.util
import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrl.checks import (
    LARGEST,
    ConfigError,
    Count,
    Episodes,
    NonNegative,
    NonNegativeInt,
    PathText,
    Positive,
    Probability,
    SideBySide,
    nearest,
    raised,
)
from llmrl.conf_files import group_file, options
from llmrl.config_errors import Source, dataclass_in, distinct, explain
from llmrl.contracts.method import Method
from llmrl.node import check_shape, complaints
from llmrl.scaling import scaled, unscaled

if TYPE_CHECKING:
    from llmrl.contracts.agent import Agent

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How much of the paper's length a run gets. `scale` shortens every length alike, those of stages included.

    Offline training makes no env_steps: where `updates` is given, it is measured in them, and so are eval.every and
    log.every.
    """

    scale: Positive
    paper_env_steps: Count
    env_steps: Count
    evaluations: Count
    eval_episodes: Episodes
    eval_max_steps: Count
    max_evaluations: Count | None = field(metadata={"neutral": None})
    max_eval_episodes: Count | None = field(metadata={"neutral": None})
    paper_updates: Count | None = field(metadata={"neutral": None})
    updates: Count | None = field(metadata={"neutral": None})

    @property
    def unit(self) -> str:
        return "updates" if self.updates else "env_steps"

    @property
    def length(self) -> int:
        """How many of `unit` a run has."""
        return self.updates or self.env_steps

    def fewer_evaluations(self, n: int) -> int:
        """n evaluations, or as many as there may be."""
        return min(n, self.max_evaluations or n)


@dataclass(frozen=True)
class Eval:
    """The evaluation that stands beside training."""

    every: Count  # env_steps, or updates of an offline run
    episodes: Episodes
    max_steps: Count  # env_steps of one episode
    epsilon: Probability
    seed: NonNegativeInt
    workers: SideBySide = field(metadata={"identity": False, "neutral": 1})
    suites: tuple[str, ...] = field(metadata={"neutral": ()})
    suites_at: Literal["end", "every"] = field(metadata={"neutral": "end"})
    suite_episodes: Episodes | dict[str, Episodes] | None = field(metadata={"neutral": None})


@dataclass(frozen=True)
class Log:
    """What is told of a run, to whom. Never changes a result."""

    every: Count  # env_steps, or updates of an offline run
    progress: bool
    wandb: Literal["off", "online", "offline"]
    wandb_project: str
    tensorboard: bool = field(metadata={"neutral": False})


@dataclass(frozen=True)
class Compute:
    """Where and how a run computes."""

    device: str
    threads: Count
    checkpoint_every_s: NonNegative
    outputs: PathText
    workers: SideBySide = field(metadata={"neutral": 1})


@dataclass(frozen=True)
class Config:
    """A whole run, checked. `choices` names the option chosen in each group (and the experiment preset)."""

    method: Any
    agent: Any
    env: Any
    llm: Any
    eval: Eval
    log: Log
    compute: Compute
    budget: Budget
    seed: NonNegativeInt
    study: str
    choices: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.choices['method']}-{self.choices['agent']}"


OWN = {"eval": Eval, "log": Log, "compute": Compute, "budget": Budget}


def module_of(group: str, name: str) -> ModuleType:
    """A name is the wiring: conf/agent/td3.yaml is llmrl/agents/td3.py. Raises ConfigError where there is none."""
    full = f"llmrl.{group}s.{name}"
    if not str(name).isidentifier() or importlib.util.find_spec(full) is None:
        raise ConfigError(f"{group}: there is no module {full} for `{name}`, here or below LLMRL_PATH")
    try:
        return importlib.import_module(full)
    except Exception as error:
        raise ConfigError(f"{group}: the module {full} cannot be imported: {raised(error)}") from error


def suite_of(name: Any) -> ModuleType:
    """The module of a suite of environments. Raises ConfigError where `name` names none."""
    if isinstance(name, str) and name.isidentifier() and importlib.util.find_spec(f"llmrl.envs.{name}"):
        module = module_of("env", name)
        if hasattr(module, "Config") and hasattr(module, "make"):
            return module
    there = {choice.partition("/")[0] for choice in options("env")}
    raise ConfigError(f"env.suite: there is no suite {reprlib.repr(name)}.{nearest(str(name), there)}")


def method_of(name: str) -> type[Method]:
    """The class that conf/method/<name>.yaml belongs to. Raises ConfigError where its module exports none."""
    return _exported("method", name, Method)


def agent_of(name: str) -> "type[Agent]":
    """The class that conf/agent/<name>.yaml belongs to. Raises ConfigError where its module exports none."""
    from llmrl.contracts.agent import Agent  # torch

    return _exported("agent", name, Agent)


def _exported(group: str, name: str, contract: type[T]) -> type[T]:
    module, export = module_of(group, name), group.upper()
    found, needed = getattr(module, export, None), f"{contract.__module__}.{contract.__name__}"
    if not isinstance(found, type) or not issubclass(found, contract):
        raise ConfigError(f"{module.__file__} must export its class: {export} = <a class that derives from {needed}>")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ConfigError(f"{module.__file__}: {found.__name__} lacks what {needed} asks for: {', '.join(missing)}")
    return found


def config_classes(choices: dict[str, str], suite: Any) -> dict[str, type]:
    """The dataclass that checks each group."""
    from llmrl.llm import client

    classes: dict[str, type] = {g: module_of(g, choices[g]).Config for g in ("method", "agent")}
    classes["env"] = suite_of(suite).Config
    return classes | {"llm": client.Config} | OWN


def from_node(node: dict[str, Any], overrides: Iterable[str] = ()) -> Config:
    """A composed node (plain containers, with `choices`) -> Config. Raises ConfigError with all that is wrong."""
    check_shape(node)
    choices, source, given = dict(node["choices"]), Source(dict(node["choices"]), tuple(overrides)), node["budget"]
    unshortened = unscaled(node, source.overrides, source.of)
    node = _resolve_transform(_resolve_budget(node))
    parts, errors = _checked_groups(node, config_classes(choices, node["env"].get("suite")), source)
    errors += [*unshortened, *complaints(node)]
    if errors:
        raise ConfigError("\n".join(errors))
    asked = given.get("env_steps") is not None and source.of("budget.env_steps") == "command line"
    check_length(parts["budget"], choices["method"], asked)
    for group in ("method", "agent"):
        parts[group] = scaled(parts[group], parts["budget"].scale)
    return Config(**parts, seed=node["seed"], study=str(node["study"]), choices=choices)


def check_own(node: dict[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Checks what no module of a method, agent or environment is needed for, which is fast, and returns the groups.
    Raises ConfigError with all that is wrong."""
    check_shape(node)
    source = Source(dict(node["choices"]), tuple(overrides))
    parts, errors = _checked_groups(_resolve_budget(node), OWN, source)
    if errors := [*errors, *complaints(node)]:
        raise ConfigError("\n".join(errors))
    return parts


def _checked_groups(node: dict, classes: dict[str, type], source: Source) -> tuple[dict[str, Any], list[str]]:
    """The groups that are right, and what is wrong with the others."""
    parts: dict[str, Any] = {}
    errors: list[str] = []
    for group, cls in classes.items():
        try:
            parts[group] = checked(cls, node[group])
        except ValidationError as error:
            errors += [explain(group, e, cls, source) for e in distinct(error.errors())]
    return parts, errors


def check_length(budget: Budget, name: str, env_steps_asked: bool) -> None:
    """Raises ConfigError where the budget is in what the training of the method `name` is not measured in."""
    method = method_of(name)
    if not method.trains or method.artifact:
        return
    offline = method.unit == "updates"
    if not offline and budget.updates is not None:
        raise ConfigError(
            f"budget.updates: method={name} trains by acting, which is measured in env_steps: give budget.env_steps, "
            "and null for budget.updates and budget.paper_updates"
        )
    if offline and env_steps_asked:
        raise ConfigError(
            f"budget.env_steps: method={name} trains on a dataset and makes no env_steps; give budget.updates alone"
        )


def checked_at(key: str, cls: type, values: dict, choices: dict[str, str]) -> Any:
    """A group's values that stand at another key. Raises ConfigError with all that is wrong."""
    parts, errors = _checked_groups({key: values}, {key: cls}, Source(choices, ()))
    if errors:
        raise ConfigError("\n".join(errors))
    return parts[key]


def checked(cls: type, values: dict) -> Any:
    """Checks `values` against the dataclass; through json, so that lists become tuples and nothing is shared. The
    config.json of an older run lacks the keys that came later: these have their `neutral` value."""
    _forbid_unknown(cls)
    return TypeAdapter(cls).validate_json(json.dumps(_with_later(cls, values)), strict=True)


def _with_later(cls: type, values: dict) -> dict:
    filled = {f.name: f.metadata["neutral"] for f in dataclasses.fields(cls) if "neutral" in f.metadata} | values
    for name, hint in get_type_hints(cls).items():
        inner = dataclass_in(hint)
        if inner is not None and isinstance(values.get(name), dict):
            filled[name] = _with_later(inner, values[name])
    return filled


def _forbid_unknown(cls: type) -> None:
    """Tells pydantic to refuse keys that the dataclass, or one inside it, does not have."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")
    for hint in get_type_hints(cls).values():
        if (inner := dataclass_in(hint)) is not None:
            _forbid_unknown(inner)


def _resolve_budget(node: dict) -> dict:
    """Fills in what follows from the budget: its own length, and when to evaluate."""
    budget, evaluation = dict(node["budget"]), dict(node["eval"])
    try:
        for unit in ("env_steps", "updates"):
            if unit in budget and budget[unit] is None and (whole := budget.get(f"paper_{unit}")) is not None:
                budget[unit] = max(1, round(budget["scale"] * whole))
                if budget[unit] > LARGEST:
                    raise ConfigError(f"budget.scale: {budget['scale']:g} of {whole:,} {unit} is too much")
        if evaluation["every"] is None:  # rounded up, so that none falls close to the end
            length = budget.get("updates") or budget["env_steps"]
            budget["evaluations"] = min(budget["evaluations"], budget.get("max_evaluations") or budget["evaluations"])
            evaluation["every"] = -(-length // budget["evaluations"])
        most = budget.get("max_eval_episodes") or budget["eval_episodes"]
        if evaluation["episodes"] is None:
            evaluation["episodes"] = min(budget["eval_episodes"], most)
        if evaluation["max_steps"] is None:
            evaluation["max_steps"] = budget["eval_max_steps"]
        if budget.get("max_eval_episodes") and (each := evaluation.get("suite_episodes")):
            fewer = {k: min(v, most) for k, v in each.items()} if isinstance(each, dict) else min(each, most)
            evaluation["suite_episodes"] = fewer
    except (TypeError, KeyError, ZeroDivisionError, OverflowError, ValueError, MemoryError):
        # a wrong value or a missing key: the check that follows says which, and shall say nothing else
        budget, evaluation = ({k: 1 if v is None else v for k, v in part.items()} for part in (budget, evaluation))
    return node | {"budget": budget, "eval": evaluation}


def _resolve_transform(node: dict) -> dict:
    """`env.transform=<artifact>` is short for its key `artifact`, with the other keys as conf/ has them; null: none."""
    transform = node["env"].get("transform")
    if isinstance(transform, str):
        import yaml

        defaults = yaml.safe_load(group_file("env", "_transform").read_text())
        transform = defaults["transform"] | {"artifact": transform}
    if isinstance(transform, dict) and transform.get("artifact") is None:
        transform = None
    return node | {"env": node["env"] | ({"transform": transform} if "transform" in node["env"] else {})}


def shared(config: Config) -> Config:
    """A run as it is; of those that others build on, the one that all of them share, so that who makes it by hand makes
    just that. Raises ConfigError where it is of another environment."""
    return method_of(config.choices["method"]).shared(config)


def without_training(config: Config, name: str, method: Any, env: Any, seed: int) -> Config:
    """The run of a method that neither trains an agent nor evaluates one, but makes what others build on: the same for
    every agent, evaluation, budget and seed of theirs."""
    return dataclasses.replace(
        config,
        method=method,
        agent=module_of("agent", "fixed").Config(probabilities=None, n_envs=1),
        env=env,
        eval=Eval(every=1, episodes=1, max_steps=1, epsilon=0.0, seed=0, workers=1, suites=(), suites_at="end",
                  suite_episodes=None),
        budget=dataclasses.replace(config.budget, env_steps=1, paper_updates=None, updates=None),
        seed=seed,
        choices={"method": name, "agent": "fixed", "env": config.choices["env"], "llm": config.choices["llm"]},
    )  # fmt: skip


# --- identity -------------------------------------------------------------------------------------------------------


def identity(config: Config, reads: Iterable[str] = ()) -> dict[str, Any]:
    """All that can change a result of the run, and nothing else; `reads` is what the method reads beside the training
    itself ("llm", "env.task"). Two commands with equal identities are the same run."""
    parts = {group: _identity_of(getattr(config, group)) for group in ("method", "agent", "env", "eval")}
    if "env.task" not in reads:
        parts["env"].pop("task", None)
    elif "env.task.observation" not in reads:
        parts["env"]["task"].pop("observation", None)
    if "llm" in reads:
        parts["llm"] = _identity_of(config.llm)
    names = {"method": config.choices["method"], "agent": config.choices["agent"]}
    device = config.compute.device.partition(":")[0]
    parts |= {"name": names, config.budget.unit: config.budget.length, "seed": config.seed, "device": device}
    return json.loads(json.dumps(parts))  # as identity.json reads back: a tuple is a list


def _identity_of(value: Any) -> Any:
    """A dataclass as plain values, without what its fields declare not to matter. A field added later declares the
    `neutral` value at which it is left out, so that old ids stay."""
    if not dataclasses.is_dataclass(value):
        return value
    result = {}
    for f in dataclasses.fields(value):
        mark, inner = f.metadata.get("identity", True), getattr(value, f.name)
        if mark is False or ("neutral" in f.metadata and inner == f.metadata["neutral"]):
            continue
        result[f.name] = _content(f.name, inner) if mark == "content" else _identity_of(inner)
    return result


HELD = {  # a path's field: its key, and what of a directory is meant
    "replay": ("llm.replay", "llm.jsonl"),
    "artifact": ("env.transform.artifact", "transform.py"),
    "run": ("method.run", "agent.pt"),
}


def _content(name: str, path: str | None) -> str | None:
    """A path counts by the content of what it names: a file, or the one that matters in a run's directory."""
    if path is None:
        return None
    key, held = HELD[name]
    file = Path(path) / held if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ConfigError(f"{key}: {file} is no file")
    return sha256(file.read_bytes()).hexdigest()


def run_id(identity: dict[str, Any]) -> str:
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def run_path(config: Config, identity: dict[str, Any]) -> Path:
    """outputs/<study>/<method>-<agent>/<env>/s<seed>-<id>; outputs/artifacts/<kind>/<id> where others build on it."""
    if kind := method_of(config.choices["method"]).artifact:
        return Path(config.compute.outputs) / "artifacts" / kind / run_id(identity)
    env = config.choices["env"].replace("/", "-")
    return Path(config.compute.outputs) / config.study / config.name / env / f"s{config.seed}-{run_id(identity)}"
