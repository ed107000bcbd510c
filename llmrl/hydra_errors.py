"""What Hydra has composed, as plain containers, or in one line what is wrong with the command line or a yaml."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from llmrl.checks import ConfigError, nearest
from llmrl.conf_files import GROUPS, extra_roots, inner_groups, options, shown
from llmrl.config.node import unknown_choices
from llmrl.hydra_session import composed


def plain(node: Any, chosen: dict[str, Any]) -> dict[str, Any]:
    """The composed node as plain containers, with the names of what was chosen, which it does not hold itself. Raises
    ConfigError where something has no value, or a choice is none."""
    try:
        values: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_of_a_value(error)) from error
    if "choices" in values:
        raise ConfigError("choices: unknown key; a choice is made by its group, as in agent=td3")
    choices = {k: v for k, v in chosen.items() if not k.startswith("hydra") and v is not None}
    if wrong := list(unknown_choices(choices, options, GROUPS)):
        raise ConfigError("\n".join(wrong))
    return {**values, "choices": choices}


def explain(error: Exception, args: Sequence[str]) -> str:
    """Whatever composing has raised -> our own words. What we do not know we pass on as it is said."""
    text = " ".join(str(error).split())
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, name = match[1].partition("/")
        if group in GROUPS:
            return f"{group}: there is no `{name}`.{nearest(name, options(group))} `llmrl list {group}` shows all."
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], args)
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.+?)' 1\. ", text):
        key, values = match.groups()
        return (
            f"command line: {key}={values} names several values. A run for each: llmrl run -m {key}={values}. A list: "
            f"{key}=[{values}]. A search: llmrl tune --param {key}='choice({values})'. One text: \"{key}='{values}'\"."
        )
    if isinstance(error, OverrideParseException):
        shown_override = error.override if error.override.isprintable() else repr(error.override)
        return (
            f"command line: `{shown_override}` is no override. Write key=value, no spaces around `=`; values "
            f"with spaces, commas or brackets need quotes of their own, as in \"key='a b'\".\n"
            f"{str(error).splitlines()[0]}"
        )
    if isinstance(error, OmegaConfBaseException):
        return _of_a_value(error)
    if file := _broken_file():
        return file
    if isinstance(error, HydraException):
        return f"command line: {text}"
    if isinstance(error, OSError):
        return f"compute.outputs: {error.strerror or text}: {error.filename}"
    return f"command line: {_culprit(args)}{type(error).__name__}: {text[:300]}"


def _of_a_value(error: OmegaConfBaseException) -> str:
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key}: has no value yet, and none by default: add {error.full_key}=… to the command"
    first = str(error).strip().splitlines()[0]
    if ours := first.partition("ConfigError raised while resolving interpolation: ")[2]:
        return ours
    return f"{error.full_key}: {first}" if error.full_key else f"conf: {first}"


def _broken_file() -> str:
    """Which of a user's own yaml files cannot be read, and why; empty where none is broken."""
    import yaml

    for root in extra_roots():
        for file in sorted((root / "conf").rglob("*.yaml")):
            try:
                text = file.read_text(encoding="utf-8")
                value = yaml.safe_load(text)
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                return f"{shown(file)}: {' '.join(str(error).split())}"
            if text.startswith("\ufeff"):
                return f"{shown(file)}: begins with a byte order mark; save it as UTF-8 without one"
            if not isinstance(value, dict | None):
                return f"{shown(file)}: must hold `key: value` lines, not a {type(value).__name__}"
    return ""


def _unknown_key(key: str, args: Sequence[str]) -> str:
    if key in GROUPS:
        return f"{key}: must be the name of one choice; `llmrl list {key}` shows all"
    if key in inner_groups("env"):
        return f"{key}: the chosen env has no such part. It belongs to env={key.split('/')[1]}/…"
    if "@" in key:
        return _broken_file() or f"{key}: nothing that was chosen has such a part"
    names = _names(args)
    parent, _, last = key.rpartition(".")
    if parent and parent not in names:  # what is wrong stands before the last dot
        near = nearest(parent, (name for name in names if name.count(".") == parent.count("."))) if names else ""
        return f"{key}: unknown key (command line).{near if 'mean' in near else ''}"
    beside = {name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == parent}
    near = nearest(last, beside)
    if parent:
        near = near.replace("mean `", f"mean `{parent}.")
    return f"{key}: unknown key (command line).{near}"


def _names(args: Sequence[str]) -> set[str]:
    """Every key of what `args` choose: what may stand on that command line. Empty where that cannot be composed."""
    try:
        node, chosen = composed([arg.partition(",")[0] for arg in args if _chooses(arg)])
    except Exception:  # noqa: BLE001 (a suggestion is not worth an error of its own)
        return set()
    inner = {name for name in chosen if name in inner_groups("env")}
    tree: Any = OmegaConf.to_container(node, resolve=False)
    return {*_keys({key: value for key, value in tree.items() if key != "sheets"}), *GROUPS, *inner}


def _chooses(arg: str) -> bool:
    """Whether an argument chooses an option of a group: agent=td3, agent@method.search_agent=td3."""
    group = arg.lstrip("+").partition("=")[0].partition("@")[0]
    return group in (*GROUPS, *inner_groups("env")) or group == "llm_model"


def _culprit(args: Sequence[str]) -> str:
    """The override that cannot be composed, beside the choices alone."""
    choices = [arg for arg in args if _chooses(arg)]
    for arg in [*choices, *args]:
        try:
            composed([arg] if arg in choices else [*choices, arg])
        except Exception:  # noqa: BLE001 (that is what is looked for)
            return f"`{arg[:100]}`: "
    return ""


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
