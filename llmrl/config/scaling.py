"""What a budget's scale makes of a run's lengths; what it cannot shorten although it was asked to is refused."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from llmrl.checks import ConfigError


def scaled(config: Any, scale: float) -> Any:
    """Warm-ups and whatever else a module marks `scales` shrink with the budget, but never to nothing: True: a count |
    its unit, of which it stays a multiple | "share": a factor."""
    if scale == 1:
        return config
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    inner = {n: scaled(v, scale) for n, v in values.items() if dataclasses.is_dataclass(v)}
    marked = {f.name: f.metadata["scales"] for f in dataclasses.fields(config) if f.metadata.get("scales")}
    shrunk = {n: _shrunk(values[n], scale, unit) for n, unit in marked.items() if values[n]}
    return dataclasses.replace(config, **inner, **shrunk)


def _shrunk(value: Any, scale: float, unit: Any) -> Any:
    return value * scale if unit == "share" else int(unit) * max(1, round(value * scale / unit))


# What a budget bounds, whatever a preset says.
CAPS = {"budget.evaluations": "max_evaluations", "budget.eval_episodes": "max_eval_episodes",
        "eval.set_episodes": "max_eval_episodes"}  # fmt: skip
LENGTHS = ("budget.env_steps", "budget.updates")  # what no budget scales, where it is given


def unscaled(node: dict, overrides: Sequence[str], place_of: Callable[[str], str]) -> list[str]:
    """What the command line, or a preset, says against the budget that the command line chose, as error messages."""
    keys = {text.lstrip("+").partition("=")[0] for text in overrides}
    if not keys & {"budget", "budget.scale"}:
        return []
    budget, errors = node["budget"], []
    for key, cap in CAPS.items():
        group, name = key.split(".")
        most, value = budget.get(cap), node[group].get(name)
        largest = max(value.values(), default=0) if isinstance(value, dict) else value
        if key in keys and isinstance(most, int) and isinstance(largest, int) and largest > most:
            bound = f"budget.{cap}={most:,} of budget={node['choices']['budget']}"
            errors.append(f"{key}: {largest:,} is more than {bound}; raise budget.{cap} as well")
    for key in LENGTHS:
        length, place = budget.get(key.partition(".")[2]), place_of(key)
        if key not in keys and length not in (None, 1) and budget.get("scale") != 1 and "experiment/" in place:
            errors.append(f"{key}: {place} gives the length itself, which no budget scales; give it as "
                          f"{key.replace('.', '.paper_')} there, or {key} on the command line")  # fmt: skip
    return errors


def shortened(own: Sequence[str], extra: Sequence[str]) -> list[str]:
    """A table's overrides under another budget, where `extra` chooses one: without its numbers of evaluations and
    episodes, which that budget has its own of. ConfigError where the table's length would not scale."""
    wanted = {text.partition("=")[0] for text in extra}
    if not wanted & {"budget", "budget.scale"}:
        return list(own)
    for key, _, value in (text.partition("=") for text in own):
        if key in (*LENGTHS, "budget.scale") and key not in wanted and value != "1":
            chosen = next(text for text in extra if text.partition("=")[0] in ("budget", "budget.scale"))
            paper = "budget.paper_updates" if key == "budget.updates" else "budget.paper_env_steps"
            raise ConfigError(
                f"{chosen} does not shorten this table: it gives {key}={value} itself. Let it give {paper}, which is "
                f"scaled, or add --set {key}=…"
            )
    return [text for text in own if text.partition("=")[0] not in CAPS or "budget" not in wanted]
