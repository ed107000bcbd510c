"""The configuration reference: a page for each group of conf/, made of the values and comments of its yaml files.

`make docs` writes the pages (scripts/docs_site.py). A key's text is the comment on its line and on the comment lines
below; where it has none there, the comment lines above it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path

import yaml

LOADER = yaml.CSafeLoader  # ten times as fast as the loader in Python
PAGES = {  # group: what it chooses
    "run": "What `llmrl run` composes, and the keys outside of all groups",
    "method": "What is done between configuration and result: a paper's method, or plain training",
    "agent": "The learning algorithm",
    "env": "The task",
    "wrapper": "What stands between an environment and its agent",
    "llm": "The language model",
    "llm_model": "KALM's language model, `llm_model@method.rollouts.model.model=<name>`",
    "budget": "How long a run is",
    "eval": "How a policy is evaluated",
    "compute": "Where a run computes",
    "log": "What is told of a run",
    "hydra/launcher": "Where the runs of `-m` and `--submit` are carried out",
    "experiment": "Presets: one setting of a paper each",
    "table": "Tables: a paper's grid of runs",
}
LISTED = ("experiment", "table")  # what these set are the other groups' keys: a line for each is enough
HIDDEN = ("task", "hydra")  # a task's text, which has one form in every file; settings of Hydra that are ours alone


@dataclass(frozen=True)
class Key:
    """One key of a yaml file, with dots."""

    name: str
    value: str
    comment: str


def keys(text: str) -> list[Key]:
    """The keys of a yaml file's mappings, without `defaults` and task texts, in their order."""
    root = yaml.compose(text, LOADER)
    return list(_keys(root, text, "")) if isinstance(root, yaml.MappingNode) else []


def _keys(node: yaml.MappingNode, text: str, prefix: str) -> Iterator[Key]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in ("defaults", *HIDDEN):
            continue
        deep = isinstance(value, yaml.MappingNode) and not value.flow_style and value.value
        comment = _comment(text.splitlines(), key, key if deep else value)
        if deep:
            inner = list(_keys(value, text, f"{name}."))
            yield from [Key(name, "", comment), *inner] if comment and inner else inner
        else:
            yield Key(name, " ".join(text[value.start_mark.index : value.end_mark.index].split()), comment)


def explained(file: Path) -> list[Key]:
    """Its keys; those without a comment have that of the files that it builds on."""
    above = _comments(file)
    found = keys(file.read_text(encoding="utf-8"))
    return [replace(key, comment=key.comment or above.get(key.name, "")) for key in found]


@cache
def _comments(file: Path) -> dict[str, str]:
    """Of each key, its own and those that it takes over."""
    text = file.read_text(encoding="utf-8")
    bases = [folder / f"{name.lstrip('/')}.yaml" for name in takes_over(text) for folder in file.parents[:3]]
    above = [_comments(base) for base in bases if base.exists() and base != file]
    own = {key.name: key.comment for key in keys(text) if key.comment}
    return {name: comment for known in [*above, own] for name, comment in known.items()}


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """Behind the value and in the comment lines below that are indented further than the key; else above the key."""
    at, indent = value.end_mark.line, key.start_mark.column
    if at >= len(lines) or (value.end_mark.column == 0 and at > key.start_mark.line):
        at -= 1  # a block ends at the beginning of the next line
    rest = lines[at][value.end_mark.column if value.end_mark.line == at else 0 :]
    found = [rest.partition("#")[2].strip()] if "#" in rest else []
    if found:
        for line in lines[at + 1 :]:
            if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) <= indent:
                break
            found.append(line.strip("# \t"))
    else:
        for line in reversed(lines[: key.start_mark.line]):
            if not line.startswith(" " * indent + "#") or line.startswith("# @package"):
                break
            found.insert(0, line.strip("# \t"))
    return " ".join(found)


def heading(text: str) -> str:
    """The comment that a file begins with."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line.strip("# \t"))
    return " ".join(lines)


def takes_over(text: str) -> list[str]:
    """What its `defaults` name, but for the file itself: "paper", "mujoco/_base", "atari/preprocess: standard"."""
    node = yaml.load(text, LOADER)
    given = node.get("defaults", []) if isinstance(node, dict) else []
    flat = [item for one in given for item in (one.items() if isinstance(one, dict) else [(one, None)])]
    return [name if value is None else f"{name}: {value}" for name, value in flat if name != "_self_"]


def files(conf: Path, group: str) -> list[Path]:
    """The yaml files of a group, without those that only hold text for a language model."""
    if group == "run":
        return [conf / "run.yaml"]
    return [file for file in sorted((conf / group).rglob("*.yaml")) if "_sheets" not in file.parts]


def page(conf: Path, group: str) -> str:
    """The page of a group, in markdown."""
    found = files(conf, group)
    parts = [f"# {group}", f"{PAGES[group]}."]
    if group == "run":
        parts += [_table(explained(found[0])), _defaults(found[0])]
    elif group in LISTED:
        parts += ["| name | |\n|---|---|\n" + "\n".join(_line(conf / group, file) for file in found)]
    else:
        parts += [f"`llmrl list {group}` lists the choices." if "/" not in group else ""]
        parts += [_section(conf, group, file) for file in found]
    return "\n\n".join(part for part in parts if part) + "\n"


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _line(folder: Path, file: Path) -> str:
    return f"| `{_name(folder, file)}` | {_text(heading(file.read_text(encoding='utf-8')))} |"


def _section(conf: Path, group: str, file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    base, task = takes_over(text), (yaml.load(text, LOADER) or {}).get("task")
    parts = [f"## {_name(conf / group, file)}", _text(heading(text))]
    parts += [f"{task['name'][0].upper()}{task['name'][1:]}." if task and group == "env" and "name" in task else ""]
    parts += ["Builds on " + ", ".join(f"`{name}`" for name in base) + "." if base else ""]
    return "\n\n".join(part for part in [*parts, _table(explained(file))] if part)


def _defaults(file: Path) -> str:
    made = [name.split(": ") for name in takes_over(file.read_text(encoding="utf-8")) if ": " in name]
    chosen = [f"`{group}={choice}`" for group, choice in made if not group.startswith("override")]
    return f"The choices that it makes: {', '.join(chosen)}; no `experiment`."


def _table(found: list[Key]) -> str:
    """Values are code, in which a bar needs no escape."""
    rows = [f"| `{key.name}` | {f'`{key.value}`' if key.value else ''} | {_text(key.comment)} |" for key in found]
    return "\n".join(["| key | value | |", "|---|---|---|", *rows]) if found else ""


def _text(comment: str) -> str:
    """For a table's cell; what stands in backticks is left as it is."""
    parts = comment.split("`")
    return "`".join(part if i % 2 else escape(part, quote=False).replace("|", "\\|") for i, part in enumerate(parts))
