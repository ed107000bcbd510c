"""The best configuration of a search as a preset: a yaml of conf/experiment/ in a directory for LLMRL_PATH."""

from collections.abc import Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from llmrl.checks import ConfigError
from llmrl.conf_files import GROUPS

NOT_ITS_OWN = ("study", "seed", "rerun", "objective")  # of whoever runs it
NOR_OF = ("log.", "compute.")


def preset(overrides: Sequence[str], about: str) -> str:
    """The text of a preset that composes what `overrides` do; `about`: its first comment.

    Raises ConfigError for a deletion (~key), which no preset can hold.
    """
    bases, choices = [], []
    values: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in NOT_ITS_OWN or key.startswith(NOR_OF):
            continue
        if override.is_delete():
            raise ConfigError(f"~{key}: a preset cannot leave a key out; give it a value")
        value = override.value()
        if key == "experiment":
            bases.append(f"/experiment/{value}")
        elif override.package or key in GROUPS or "/" in key:
            place = f"@{override.package}" if override.package else ""
            choices.append({f"override /{key}{place}": value})
        else:
            inner = values
            for part in key.split(".")[:-1]:
                inner = inner.setdefault(part, {})
            inner[key.rpartition(".")[2]] = value
    lines = [f"# {line}" for line in about.splitlines()]
    text = yaml.safe_dump({"defaults": [*bases, *choices, "_self_"]}, sort_keys=False, default_flow_style=None)
    body = yaml.safe_dump(values, sort_keys=False, default_flow_style=None) if values else ""
    return "\n".join(["# @package _global_", *lines, text + body])
