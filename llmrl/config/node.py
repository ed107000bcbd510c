"""A composed node before its groups are checked: its shape, and values that no key may have. A yaml, a command line and
a config.json that somebody edited can hold anything."""

import math
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from llmrl.checks import LARGEST, ConfigError, nearest

GROUPS = ("method", "agent", "env", "wrapper", "llm", "eval", "log", "compute", "budget")
KEYS = (*GROUPS, "seed", "study", "rerun", "objective")
SHEETS = "sheets"  # texts that an environment's yaml chooses from by interpolation; nothing else reads them
NAME_BYTES = 200  # of a study, so that a run's directory has a name that file systems take


def check_shape(node: Any) -> None:
    """Raises ConfigError unless `node` has the keys of a run, groups and choices in their places, and plain values."""
    if not isinstance(node, dict):
        raise ConfigError(f"a run's configuration is a mapping, not {reprlib.repr(node)}")
    wrong = [_unknown(key) for key in node if key not in (*KEYS, SHEETS, "choices")]
    if not isinstance(node.get(SHEETS, {}), dict):
        wrong.append(f"{SHEETS}: unknown key.")
    for key in GROUPS:
        if not isinstance(node.get(key, {} if key == "wrapper" else None), dict):  # a run from before wrappers has none
            wrong.append(f"{key}: must be one choice, not {reprlib.repr(node.get(key))}; `llmrl list {key}` shows all")
    for key in ("seed", "study"):
        if key not in node:
            wrong.append(f"{key}: missing. Leave out `~{key}`, or give a value.")
    choices = node.get("choices")
    for key in ("method", "agent", "env", "llm", "wrapper"):
        named = isinstance(choices, dict) and isinstance(choices.get(key, "none" if key == "wrapper" else None), str)
        if isinstance(node.get(key), dict) and not named:
            wrong.append(f"{key}: must be the name of one choice; `llmrl list {key}` shows all")
    wrong += [text for key, value in node.items() if key != "choices" for text in _unfit(str(key), value)]
    if wrong:
        raise ConfigError("\n".join(wrong))


def _unknown(key: Any) -> str:
    if key == "experiment":
        return "experiment: the preset's yaml has to begin with the line `# @package _global_` (and no byte order mark)"
    return f"{reprlib.repr(str(key))[1:-1]}: unknown key.{nearest(str(key), KEYS)}"


def _unfit(key: str, value: Any) -> Iterator[str]:
    """What is wrong with a value wherever it stands: it could not be counted with, or not be written down."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(name, str):
                yield from _unfit(f"{key}.{name}", inner)
            else:
                yield f"{key}: its keys must be names, not {reprlib.repr(name)}"
    elif isinstance(value, list):
        for inner in value:
            yield from _unfit(key, inner)
    elif isinstance(value, str):
        if "\0" in value:
            yield f"{key}: holds a null byte: {reprlib.repr(value)}"
        elif not _encodes(value):
            yield f"{key}: is not UTF-8: {reprlib.repr(value)}"
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f"{key}: {reprlib.repr(value)} is too large a number"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{key}: must be a finite number, not {value}"
    elif not isinstance(value, int | float | None):
        yield f"{key}: a {type(value).__name__} is no value here; put it in quotes to make it text"


def _encodes(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def complaints(node: dict[str, Any]) -> Iterator[str]:
    """What is wrong with seed, study, rerun and objective."""
    seed, rerun = node["seed"], node.get("rerun", False)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        yield f"seed: must be a whole number from 0 on, not {reprlib.repr(seed)} (a sweep over seeds needs -m)"
    if not isinstance(rerun, bool):
        yield f"rerun: must be true or false, not {reprlib.repr(rerun)}"
    if not isinstance(objective := node.get("objective", ""), str):
        yield f"objective: must be the name of a score, such as last, not {reprlib.repr(objective)}"
    if why := _no_study(node["study"]):
        yield f"study: {why}, not {reprlib.repr(node['study'])}"


def _no_study(study: Any) -> str:
    """Why this is no name of a study; empty where it is one. A number is one: study=2024."""
    if not isinstance(study, str | int) or isinstance(study, bool):
        return "must be a name (quotes make text of anything: \"study='1.0'\")"
    path = PurePosixPath(str(study))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        return "must name a folder below compute.outputs"
    if path.parts[0] == "artifacts":
        return "must be another name than `artifacts`, which is where runs keep what they share"
    if not all(_plain(part) for part in path.parts) or not str(study).isprintable():
        return "must be of printable names that begin with no `.`, `~` or `-`, and neither begin nor end with a space"
    if len(str(study).encode()) > NAME_BYTES:
        return f"must have at most {NAME_BYTES} bytes"
    return ""


def _plain(part: str) -> bool:
    return part == part.strip() and part[0] not in ".~-"


def unknown_choices(choices: dict[str, Any], options: Any, groups: Iterable[str]) -> Iterator[str]:
    """Choices that are none: a part such as env=_task, or what lies outside of the group such as env=../run."""
    for group in groups:
        name = choices.get(group)
        if name is not None and name not in (there := options(group)):
            shown = name if isinstance(name, str) else reprlib.repr(name)
            yield f"{group}: there is no `{shown}`.{nearest(str(name), there)} `llmrl list {group}` shows all."
