"""`--param KEY=SPACE`: where the values of a key are searched."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from llmrl.checks import ConfigError, nearest
from llmrl.config import Config, from_node, identity, method_of, run_id, shared
from llmrl.hydra_compose import compose

SPACES = {
    "log": "log(1e-5,1e-2): a number, its logarithm uniform",
    "uniform": "uniform(0.9,0.99): a number",
    "choice": "choice(64,128): one of these",
}


@dataclass(frozen=True)
class Param:
    """A key and its space. `low` and `high` are bounds, as numbers; `choices` are texts of overrides."""

    key: str
    space: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    whole: bool = False  # whole numbers only

    def ends(self) -> tuple[str, ...]:
        """Values, as overrides, which together have all that can be wrong with the space."""
        values = self.choices or (self.written(self.low), self.written(self.high))
        return tuple(f"{self.key}={value}" for value in values)

    def written(self, value: Any) -> str:
        """A value in the grammar of overrides; it reads back exactly."""
        if self.choices:
            return str(value)
        return repr(int(value)) if self.whole else repr(float(value))

    def suggest(self, trial: Any) -> str:
        """The override that an Optuna trial draws."""
        if self.choices:
            value = trial.suggest_categorical(self.key, list(self.choices))
        elif self.whole:
            value = trial.suggest_int(self.key, int(self.low), int(self.high), log=self.space == "log")
        else:
            value = trial.suggest_float(self.key, self.low, self.high, log=self.space == "log")
        return f"{self.key}={self.written(value)}"


def parse(texts: Sequence[str], overrides: Sequence[str]) -> list[Param]:
    """The params of a command line, checked together with its overrides. Raises ConfigError with all that is wrong."""
    if not texts:
        raise ConfigError("--param: name at least one key and its space, as in agent.learning_rate='log(1e-5,1e-2)'")
    params = [_parsed(text) for text in texts]
    keys = [param.key for param in params]
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    for key in keys:
        if keys.count(key) > 1 or key in given:
            raise ConfigError(f"--param {key}: the key is given twice; give its space alone")
    return _checked(params, overrides)


def _parsed(text: str) -> Param:
    key, equals, space = text.partition("=")
    match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", space)
    if not key or not equals or match is None:
        near = _near(space.partition("(")[0].strip()) if equals else ""
        raise ConfigError(f"--param {text}: not KEY=SPACE.{near} Write {key or 'KEY'}='log(1e-5,1e-2)', with a space "
                          f"of these: {'; '.join(SPACES.values())}")  # fmt: skip
    name, inner = match[1], _split(match[2])
    if name not in SPACES:
        raise ConfigError(f"--param {key}: there is no space `{name}`.{_near(name)} There are: "
                          f"{'; '.join(SPACES.values())}")  # fmt: skip
    if name == "choice":
        if not all(inner) or len(set(inner)) < 2:
            raise ConfigError(f"--param {key}: choice(…) needs two values or more, not {match[2]!r}")
        return Param(key, name, choices=tuple(inner))
    try:
        low, high = map(float, inner)
    except ValueError:
        raise ConfigError(f"--param {key}: {name}(low,high) needs two numbers, not {match[2]!r}") from None
    if not (0 if name == "log" else float("-inf")) < low < high < float("inf"):
        sign = "0 < " if name == "log" else ""
        raise ConfigError(f"--param {key}: {name}(low,high) needs {sign}low < high, not {match[2]!r}")
    return Param(key, name, low, high)


def _near(name: str) -> str:
    near = nearest(name, SPACES)
    return near if "mean" in near else ""


def _split(text: str) -> list[str]:
    """At commas that stand in no brackets: [64,64],[256] is two values."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _checked(params: Sequence[Param], overrides: Sequence[str]) -> list[Param]:
    """With `whole` where the key takes whole numbers. Composes the ends of every space beside one end of all others."""
    found, first = [], [param.ends()[0] for param in params]
    for i, param in enumerate(params):
        number = None if param.choices else _value(_config(*overrides, *first), param.key)
        if not param.choices and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise ConfigError(f"--param {param.key}: it takes no number, but {number!r}: use choice(…)")
        if isinstance(number, int):
            if not (param.low.is_integer() and param.high.is_integer()):
                raise ConfigError(f"--param {param.key}: takes whole numbers; give whole bounds")
            param = replace(param, whole=True)
        others = first[:i] + first[i + 1 :]
        ids = {_id(_config(*overrides, *others, end)) for end in param.ends()}
        if len(ids) < len(param.ends()):
            raise ConfigError(f"--param {param.key}: its values change no result (they are no part of a run's id)")
        found.append(param)
        first[i] = param.ends()[0]
    return found


@cache
def _config(*texts: str) -> Config:
    node = compose(texts)
    node.pop("rerun", None)
    return shared(from_node(node, texts))


def _id(config: Config) -> str:
    return run_id(identity(config, method_of(config.choices["method"]).reads(config.method)))


def _value(config: Config, key: str) -> Any:
    """What a checked configuration has at a key; None where it has none (a group's choice)."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value
