"""The runs of a figure or a page: found below the given paths, gathered into groups that are averaged.

A group is all runs of one setting, which differ by their seed alone. Runs that differ in anything else that can change
a result stand in groups of their own, and the group's name says by what.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmrl.checks import ConfigError
from llmrl.report.store.loading import load
from llmrl.report.store.reading import RUN_NAME
from llmrl.report.store.record import RunRecord
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE

SCRIPTED = "scripted LLM"


@dataclass(frozen=True)
class Group:
    """The runs of one setting in one environment, in order of their seeds."""

    name: str  # llm_explorer-dqn, and whatever distinguishes it: "llm_explorer-dqn · method.k=4"
    env: str
    runs: tuple[RunRecord, ...]

    @property
    def finished(self) -> list[RunRecord]:
        return [run for run in self.runs if run.status == DONE]

    @property
    def scripted(self) -> bool:
        """Whether a rule answered, not a language model."""
        return any((run.llm or {}).get("model") == "scripted" for run in self.runs)

    @property
    def label(self) -> str:
        """The name, marked where a rule answered."""
        return f"{self.name} ({SCRIPTED})" if self.scripted else self.name

    @property
    def random(self) -> float | None:
        """Mean return of the random policy on the evaluation cases; None where no run has played it."""
        returns = next((run.random for run in self.runs if run.random), None)
        return sum(returns) / len(returns) if returns else None


class Made(Protocol):
    """What a run was made by."""

    @property
    def codes(self) -> tuple[str, ...]: ...
    @property
    def processors(self) -> tuple[str, ...]: ...


def mixed(runs: Iterable[Made]) -> dict[str, list[str]]:
    """{"code": …, "processors": …}: what these runs should have in common and have not, which may change bits."""
    runs = list(runs)
    found = {name: sorted({one for run in runs for one in getattr(run, key)})
             for name, key in (("code", "codes"), ("processors", "processors"))}  # fmt: skip
    return {name: them for name, them in found.items() if len(them) > 1}


def counted(sizes: Sequence[int], unfinished: int, panels: Iterable[Sequence[RunRecord]] = ()) -> str:
    """', n = 3' for a label (', n = 2 to 3' where panels differ), how many runs still go on, and what differs among the
    runs that a panel merges."""
    other = sorted({what for runs in panels for what in mixed(runs)})
    spread = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    notes = [f"{unfinished} unfinished"] * bool(unfinished) + [f"different {' and '.join(other)}"] * bool(other)
    return f", n\u00a0=\u00a0{spread}" + (f" ({'; '.join(notes)})" if notes else "")


def select(paths: Iterable[Path]) -> list[RunRecord]:
    """The runs at and below these directories, each once. Raises ConfigError where one is missing or holds no run."""
    found: dict[Path, RunRecord] = {}
    for path in paths:
        path = Path(os.path.abspath(path))
        if not path.is_dir():
            raise ConfigError(f"there is no directory {path}; `llmrl status` lists the runs in outputs/<study>/")
        studies: defaultdict[Path, set[str]] = defaultdict(set)  # by the directory outputs/ that they lie in
        for folder in dict.fromkeys(run.parents[2] for run in runs_below(path)):  # outputs/<study>
            outputs = outputs_of(folder)
            studies[outputs].add(str(folder.relative_to(outputs)))
        if not studies:
            raise ConfigError(
                f"there is no run below {path}; `llmrl run` makes one, `llmrl status` lists those in outputs/<study>/"
            )
        for outputs, names in studies.items():
            found |= {r.path: r for r in load(outputs, studies=names) if r.path.is_relative_to(path)}
    return list(found.values())


def outputs_of(folder: Path) -> Path:
    """Where studies lie, seen from the directory of one, which may be called a/b; the study's runs know its name."""
    for config in sorted(folder.glob("*/*/*/config.json")):
        try:
            study = Path(read_json(config)["study"]).parts
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if folder.parts[-len(study) :] == study:
            return folder.parents[len(study) - 1]
    return folder.parent


def runs_below(path: Path) -> Iterator[Path]:
    """Directories named like runs at or below `path`, nothing hidden and none inside another."""
    for folder, below, _ in os.walk(path):
        if RUN_NAME.fullmatch(Path(folder).name):
            below.clear()
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))


def gather(records: Iterable[RunRecord]) -> list[Group]:
    """Undamaged runs as groups, in order of environment and name. Of runs made twice (in two studies) the one that is
    furthest counts, once."""
    best: dict[tuple[str, str, str], RunRecord] = {}
    settings: dict[Path, dict[str, str]] = {}
    for record in records:
        if record.damaged:
            continue
        settings[record.path] = flat({k: v for k, v in record.identity.items() if k != "seed"})
        key = f"{record.method}-{record.agent}", record.env, json.dumps(record.identity, sort_keys=True)
        if key not in best or _rank(record) > _rank(best[key]):
            best[key] = record
    families: defaultdict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for (family, env, _), record in best.items():
        families[family][env].append(record)
    groups: defaultdict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for family, envs in families.items():
        own = distinguishing({env: {run.path: settings[run.path] for run in runs} for env, runs in envs.items()})
        for env, runs in envs.items():
            for run in runs:
                groups[env, " · ".join([family, *own[run.path]])].append(run)
    return [Group(n, e, tuple(sorted(runs, key=lambda r: r.seed))) for (e, n), runs in sorted(groups.items())]


def _rank(record: RunRecord) -> tuple[bool, int]:
    return record.status == DONE, record.steps


def distinguishing(places: Mapping[str, Mapping[Path, Mapping[str, str]]]) -> dict[Path, list[str]]:
    """What tells the setting of each run from the others' of its place: ["method.epsilon=0.2", …].

    A key that only some have, as those of an LLM where others ask none, is named where nothing else tells a run apart.
    """
    keys: set[str] = set()
    telling: set[str] = set()
    for runs in places.values():
        for key in differing(runs.values()):
            keys.add(key)
            if len({setting[key] for setting in runs.values() if key in setting}) > 1:
                telling.add(key)

    def label(setting: Mapping[str, str], named: set[str]) -> tuple[str, ...]:
        return tuple(f"{key}={setting[key]}" for key in sorted(named & setting.keys(), key=_foremost))

    found: dict[Path, list[str]] = {}
    for runs in places.values():
        whole = {path: label(setting, keys) for path, setting in runs.items()}
        short = {path: label(setting, telling) for path, setting in runs.items()}
        alike: defaultdict[tuple[str, ...], set] = defaultdict(set)
        for path in runs:
            alike[short[path]].add(whole[path])
        found |= {path: list(short[path] if len(alike[short[path]]) == 1 else whole[path]) for path in runs}
    return found


def _foremost(key: str) -> tuple[bool, str]:
    """Sorts what agent, environment and method are set to before budgets, evaluations and language models."""
    return key.split(".")[0] not in ("agent", "env", "method"), key


def differing(settings: Iterable[Mapping[str, str]]) -> list[str]:
    """The keys whose values are not the same in all of these, sorted. A missing one is a value as well, except where a
    part of the configuration is null as a whole: then that part's key alone differs, not all that lies below."""
    settings = list(settings)
    keys = sorted({key for one in settings for key in one})
    return [key for key in keys if len({one.get(key) for one in settings if not _parts_above(key) & one.keys()}) > 1]


def _parts_above(key: str) -> set[str]:
    """a.b.c -> {a, a.b}"""
    names = key.split(".")
    return {".".join(names[:n]) for n in range(1, len(names))}


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """A nested configuration as {"agent.gamma": "0.99", …}."""
    if not isinstance(tree, dict):
        return {prefix: tree if isinstance(tree, str) else json.dumps(tree)}
    parts: dict[str, str] = {}
    for key, value in tree.items():
        parts |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return parts
