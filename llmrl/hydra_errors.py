"""Hydra's errors in one line: what is wrong with the command line, and the nearest name that exists."""

import re
from collections.abc import Iterator
from typing import Any

from hydra.errors import OverrideParseException

from llmrl.conf_files import GROUPS, inner_groups, options
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
    names = [n for n in _keys(_defaults()) if n != "choices"] + list(GROUPS) + inner_groups("env")
    if key in inner_groups("env"):
        return f"{key}: the chosen env has no such part. It belongs to env={key.split('/')[1]}/…"
    near = nearest(key, names)
    if "." in key and not near.startswith(" Did"):
        parent = key.rpartition(".")[0]
        near = nearest(key, [n for n in names if n.startswith(parent + ".")])
    return f"{key}: unknown key (command line).{near}"


def _defaults() -> dict[str, Any]:
    """Every key of every choice of every group: what may stand on a command line."""
    import yaml

    from llmrl.conf_files import conf_root, group_file

    tree: dict[str, Any] = yaml.safe_load((conf_root() / "run.yaml").read_text())
    for hidden in ("defaults", "hydra"):
        tree.pop(hidden, None)
    for group in GROUPS:
        if group != "experiment":
            tree[group] = {}
            for option in options(group):
                file = group_file(group, option)
                tree[group] |= (yaml.safe_load(file.read_text()) if file else {}) or {}
            tree[group].pop("defaults", None)
    return tree


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
