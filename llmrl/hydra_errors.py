"""Hydra's errors in one line: what is wrong with the command line, and the nearest name that exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import OverrideParseException

from llmrl.conf_files import GROUPS, conf_roots, group_file, inner_groups, options
from llmrl.config import nearest


def explain(error: Exception, args: list[str]) -> str:
    """A Hydra composition error -> our own words. What we do not know we pass on as Hydra says it."""
    text = str(error)
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, name = match[1].partition("/")
        return f"{group}: there is no `{name}`.{nearest(name, options(group))} `llmrl list {group}` shows all."
    if match := re.search(r"Could not override '([^'@]+)[^']*'", text):
        return _unknown_key(match[1], text)
    if isinstance(error, OverrideParseException):
        return (
            f"command line: `{error.override}` is no override. Write key=value, no spaces around `=`; values "
            f"with spaces, commas or brackets need quotes of their own, as in \"key='a b'\".\n{text.splitlines()[0]}"
        )
    return f"command line: {text}"


def _unknown_key(key: str, text: str) -> str:
    if key in inner_groups("env"):
        return f"{key}: the chosen env has no such part. It belongs to env={key.split('/')[1]}/…"
    names = {*_names(), *GROUPS, *(g for g in inner_groups("env") if "/_" not in g)}
    parent, _, last = key.rpartition(".")
    beside = {n.rpartition(".")[2] for n in names if n.rpartition(".")[0] == parent}
    near = nearest(last, beside) if beside else nearest(key, names)
    if beside and parent:
        near = near.replace("mean `", f"mean `{parent}.")
    return f"{key}: unknown key (command line).{near}"


def _names() -> Iterator[str]:
    """Every key of every choice of every group: what may stand on a command line."""
    import yaml

    from llmrl.conf_files import conf_root

    tree: dict[str, Any] = yaml.safe_load((conf_root() / "run.yaml").read_text())
    yield from _keys({key: value for key, value in tree.items() if key not in ("defaults", "hydra", "choices")})
    for group in GROUPS:
        for option in options(group) if group != "experiment" else ():
            if file := group_file(group, option):
                yield from _keys_of(file, f"{group}.")


def _keys_of(file: Path, prefix: str) -> Iterator[str]:
    """A yaml's keys, with those of the parts that its defaults put in: `part@key`, or `/group@key: part`. Of a file
    that cannot be read: none, since it is not what was asked about."""
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    if not isinstance(values, dict):
        return
    defaults = values.pop("defaults", None)
    for entry in defaults if isinstance(defaults, list) else ():
        name, part = next(iter(entry.items())) if isinstance(entry, dict) and entry else (entry, None)
        group, _, key = f" {name}".rpartition(" ")[2].partition("@")  # behind `optional` or `override`
        parts = part if isinstance(part, list) else [part]  # Hydra takes several
        for inner in (found for one in parts if key and (found := _part(file, group, one))):
            yield f"{prefix}{key}"
            yield from _keys_of(inner, f"{prefix}{key}.")
    yield from _keys(values, prefix)


def _part(file: Path, group: str, choice: Any) -> Path | None:
    """The yaml that an entry of `file`'s defaults names: `/group` is looked for from conf/ on, `group` from the file's
    own group on."""
    own = next(file.relative_to(root).parts[:-1] for root in conf_roots() if file.is_relative_to(root))
    bases = [()] if group.startswith("/") else [own, own[:1]]
    names = [Path(*base, group.lstrip("/"), *([str(choice)] if choice else [])) for base in bases]
    return next((found for name in names if (found := group_file("", str(name))) not in (None, file)), None)


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
