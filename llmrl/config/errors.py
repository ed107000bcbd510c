"""What is wrong with a value, in a sentence: its key, where it came from, and the nearest that would be right."""

import dataclasses
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from llmrl import registered
from llmrl.checks import nearest
from llmrl.conf_files import group_file, shown


@dataclass(frozen=True)
class Source:
    """Where a key's value came from: the command line, the experiment preset, or the group's own yaml."""

    choices: dict[str, str]
    overrides: tuple[str, ...]

    def of(self, key: str) -> str:
        names = [o.lstrip("+~").partition("=")[0] for o in self.overrides]
        if any(key == n or key.startswith(n + ".") for n in names if "." in n or n == key):
            return "command line"
        preset = self.choices.get("experiment")
        file = group_file("experiment", preset) if preset else None
        if file and _has_key(file, key):
            return shown(file)
        group = key.partition(".")[0]
        if (group, self.choices.get(group)) in registered.MODULES:
            return "api.register"
        file = group_file(group, self.choices.get(group, "default"))
        return shown(file) if file else "conf/run.yaml"


def _has_key(file: Path, key: str) -> bool:
    import yaml

    value = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def distinct(errors: Iterable[Any]) -> list[Any]:
    """Without the repetitions: a value that the yaml takes over into a second place is wrong in both."""
    kept: list[Any] = []
    for e in errors:
        same = [k for k in kept if (k["msg"], k["input"]) == (e["msg"], e["input"])]
        if not any(e["loc"][-len(k["loc"]) :] == k["loc"] for k in same):
            kept.append(e)
    return kept


def explain(group: str, error: Any, cls: type, source: Source) -> str:
    """One pydantic error -> one sentence with key, place and remedy."""
    loc = [group, *(str(part) for part in error["loc"] if "[" not in str(part))]  # of a union its members are told
    key, text = ".".join(loc), error["msg"][0].lower() + error["msg"][1:]
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
    if error["type"] == "value_error" and re.match(r"[\w.]+: ", text):  # of a __post_init__, which names its key
        named = ".".join([*loc, text.partition(":")[0]])
        return f"{key}.{text} ({source.of(named)})"
    if error["type"] == "unexpected_keyword_argument":
        inner: Any = cls
        for part in loc[1:-1]:
            inner = dataclass_in(get_type_hints(inner).get(part)) if inner else None
        known = [f.name for f in dataclasses.fields(inner)] if inner else []
        return f"{key}: unknown key ({source.of(key)}).{nearest(loc[-1], known)}"
    if error["type"] == "missing":
        return f"{key}: missing. {source.of(key)} has to give it."
    return f"{key}: {text}, not {reprlib.repr(error['input'])} ({source.of(key)})"


def dataclass_in(hint: Any) -> Any:
    """The dataclass that a type hint is, or allows beside None; None where there is none."""
    return next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)
