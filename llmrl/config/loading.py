"""From a composed Hydra node to the checked dataclasses. Everything that is wrong is said at once, with its key, its
file and the nearest valid name."""

import dataclasses
import json
from collections.abc import Iterable
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmrl.checks import LARGEST, ConfigError
from llmrl.conf_files import options
from llmrl.config.errors import Source, dataclass_in, distinct, explain
from llmrl.config.node import check_shape, complaints
from llmrl.config.plugins import config_classes, method_of
from llmrl.config.scaling import scaled, unscaled
from llmrl.config.schema import OWN, Budget, Config, NoWrapper
from llmrl.registered import check_known_to_children


def from_node(node: dict[str, Any], overrides: Iterable[str] = ()) -> Config:
    """A composed node (plain containers, with `choices`) -> Config. Raises ConfigError with all that is wrong."""
    check_shape(node)
    choices, source, given = dict(node["choices"]), Source(dict(node["choices"]), tuple(overrides)), node["budget"]
    unshortened = unscaled(node, source.overrides, source.of)
    node = _resolve_budget({"wrapper": {}} | node)
    parts, errors = _checked_groups(node, config_classes(choices, node["env"].get("suite")), source)
    errors += [*unshortened, *complaints(node)]
    if errors:
        raise ConfigError("\n".join(errors))
    asked = given.get("env_steps") is not None and source.of("budget.env_steps") == "command line"
    check_suite(choices["method"], parts["env"].suite, choices["env"])
    check_length(parts["budget"], choices["method"], asked)
    if (workers := parts["eval"].workers) > 1:
        check_known_to_children(choices, f"eval.workers={workers}")
    if isinstance(parts["wrapper"], NoWrapper):
        parts["wrapper"] = None
    elif method_of(choices["method"]).unit == "updates":
        raise ConfigError(
            f"wrapper: method={choices['method']} trains on a dataset of the environment as it is: use wrapper=none"
        )
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


def check_suite(name: str, suite: str, env: str) -> None:
    """Raises ConfigError where the method `name` is made for other suites of environments."""
    suites = method_of(name).suites
    if suites and suite not in suites:
        choices = [choice for choice in options("env") if choice.partition("/")[0] in suites]
        raise ConfigError(f"method={name} does not take env={env}. It takes: {', '.join(choices)}.")


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
    return _adapter(cls).validate_json(json.dumps(_with_later(cls, values)), strict=True)


@cache
def _adapter(cls: type) -> TypeAdapter:
    _forbid_unknown(cls)
    return TypeAdapter(cls)


def _with_later(cls: type, values: dict) -> dict:
    filled = {f.name: f.metadata["neutral"] for f in dataclasses.fields(cls) if "neutral" in f.metadata} | values
    for name, hint in get_type_hints(cls).items():
        inner = dataclass_in(hint)
        if inner is not None and isinstance(values.get(name), dict):
            filled[name] = _with_later(inner, values[name])
    return filled


def _forbid_unknown(cls: Any) -> None:
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
        if budget.get("max_eval_episodes") and (each := evaluation.get("set_episodes")):
            fewer = {k: min(v, most) for k, v in each.items()} if isinstance(each, dict) else min(each, most)
            evaluation["set_episodes"] = fewer
    except (TypeError, KeyError, ZeroDivisionError, OverflowError, ValueError, MemoryError):
        # a wrong value or a missing key: the check that follows says which, and shall say nothing else
        budget, evaluation = ({k: 1 if v is None else v for k, v in part.items()} for part in (budget, evaluation))
    return node | {"budget": budget, "eval": evaluation}
