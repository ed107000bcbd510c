"""llmrl completion bash|zsh

Prints the tab completion for a shell. To have it: eval "$(llmrl completion bash)", best as a line of ~/.bashrc, or the
same with zsh in ~/.zshrc. It completes commands, group=choice (also in lists, agent=td3,d…), the keys of the chosen
options with their values, and directories of runs.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrl.commands import COMMANDS
from llmrl.conf_files import GROUPS, conf_root, group_file, inner_groups, options

BASH = r"""
_llmrl() {
    mapfile -t COMPREPLY < <(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" "$1" --complete 2>/dev/null)
    if [[ $COMP_WORDBREAKS == *=* ]]; then  # then bash replaces only what stands behind the last =
        local typed="${COMP_LINE:0:COMP_POINT}"
        local word="${typed##* }"
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    return 0
}
complete -F _llmrl llmrl
"""
ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_llmrl() {
    local line="${(j: :)words[1,CURRENT]}"
    local -a found
    found=("${(@f)$(COMP_LINE="$line" COMP_POINT=${#line} "$words[1]" --complete 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*[=./]}
    compadd -Q -- ${found:#*[=./]}
}
compdef _llmrl llmrl
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}
DIRECTORY_FLAGS = {"eval": ["--episodes", "--seed", "--video"], "view": ["--port", "--host", "--token"]}
TABLE_FLAGS = ["--seeds", "--row", "--column", "--set"]
FLAGS = {"plan": ["--run", "-j", "--submit", "--study", *TABLE_FLAGS],
         "table": ["--score", "--from", "--to", *TABLE_FLAGS]}  # fmt: skip


def main(args: list[str]) -> int:
    if len(args) != 1 or args[0] not in SCRIPTS:
        print("llmrl completion: name the shell, bash or zsh.", file=sys.stderr)
        return 2
    print(SCRIPTS[args[0]].strip())
    return 0


def complete_line() -> int:
    """What the shells call: prints the candidates for the last word of COMP_LINE up to COMP_POINT, one per line."""
    line = os.environ.get("COMP_LINE", "")
    typed = line[: int(os.environ.get("COMP_POINT", len(line)))]
    words = typed.split()[1:]
    current = "" if typed[-1:].isspace() or not words else words.pop()
    for candidate in candidates(words, current):
        print(candidate)
    return 0


def candidates(words: list[str], current: str) -> list[str]:
    """The words that may stand for the half-typed `current`, after `words` (which begin with the command)."""
    if not words:
        found: list[str] = [*COMMANDS]
    elif words[0] in ("run", "check", "probe", "tune"):
        found = list(_overrides(words[1:], current))
    elif words[0] in ("eval", "status", "plot", "report", "view", "doctor"):
        flags = DIRECTORY_FLAGS.get(words[0], []) if current.startswith("-") else []
        found = flags or _directories(current)
    elif words[0] in FLAGS:
        found = list(_overrides(words[1:], current)) if words[-1] == "--set" else [*options("table"), *FLAGS[words[0]]]
    else:
        found = {"list": [*GROUPS], "completion": [*SCRIPTS]}.get(words[0], [])
    return sorted({word for word in found if word.startswith(current)})


def _overrides(words: list[str], current: str) -> Iterator[str]:
    """Candidates for an override: first the key with its `=`, then the value; in a list, behind the last comma."""
    key, equals, value = current.partition("=")
    if not equals:
        yield from ("-m", "--cfg", "--help", "--hydra-help")
        yield from (f"{name}=" for name in (*GROUPS, "seed", "study", "rerun", "objective"))
        chosen = _chosen(words)
        yield from (f"{name}=" for name in inner_groups("env") if chosen.get("env", "").startswith(name.split("/")[1]))
        if "." in current:
            group = current.partition(".")[0]
            yield from (f"{name}=" for name in _keys(group, chosen))
        else:
            yield from (f"{group}." for group in GROUPS if group != "experiment")
        return
    listed = value.split(",")[:-1]
    for choice in _values(key, words):
        if choice not in listed:
            yield f"{key}=" + ",".join([*listed, choice])


def _values(key: str, words: list[str]) -> list[str]:
    """The choices of a group; of a key true and false, or the value that it has now."""
    if key in GROUPS or key in inner_groups("env"):
        return options(key)
    if key == "rerun":
        return ["true", "false"]
    value = _keys(key.partition(".")[0], _chosen(words)).get(key)
    if isinstance(value, bool):
        return ["true", "false"]
    return [str(value)] if isinstance(value, int | float | str) and value != "" and " " not in str(value) else []


def _chosen(words: list[str]) -> dict[str, str]:
    """The choice in each group: as run.yaml says, then as the preset says, then as the words before say."""
    asked = dict(word.split("=", 1) for word in words if "=" in word)
    asked = {key: value.partition(",")[0] for key, value in asked.items()}
    chosen = _defaults(_read(conf_root() / "run.yaml"))
    if preset := group_file("experiment", asked.get("experiment", "")):
        chosen |= _defaults(_read(preset))
    return chosen | {key: value for key, value in asked.items() if key in GROUPS or key in inner_groups("env")}


def _defaults(tree: dict[str, Any]) -> dict[str, str]:
    """A yaml's list of defaults as {group: choice}."""
    entries = [entry for entry in tree.get("defaults", []) if isinstance(entry, dict)]
    pairs = [(str(k).removeprefix("override ").lstrip("/"), v) for entry in entries for k, v in entry.items()]
    return {group: choice for group, choice in pairs if isinstance(choice, str)}


def _keys(group: str, chosen: dict[str, str]) -> dict[str, Any]:
    """{agent.gamma: 0.99, …}: all keys of the chosen option of a group, with those of the files that it builds on."""
    if group not in GROUPS or group not in chosen:
        return {}
    return _option(group, chosen[group], chosen)


def _option(group: str, choice: str, chosen: dict[str, str]) -> dict[str, Any]:
    file = group_file(group, choice)
    if file is None:
        return {}
    tree = _read(file)
    keys: dict[str, Any] = {}
    for base in tree.get("defaults", []):
        if isinstance(base, dict):
            for inner, default in base.items():
                keys |= _option(f"{group}/{inner}", chosen.get(f"{group}/{inner}", str(default)), chosen)
        elif base != "_self_":
            keys |= _option(group, base, chosen)
    package = re.match(r"# @package (\S+)", file.read_text())
    return keys | dict(_flat({k: v for k, v in tree.items() if k != "defaults"}, package[1] if package else group))


def _flat(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _read(file: Path) -> dict[str, Any]:
    import yaml

    return yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _directories(current: str) -> list[str]:
    """The next step of a path: directories with a / behind them, runs without. From nothing it begins with outputs/."""
    if not current and Path("outputs").is_dir():
        current = "outputs/"
    folder = Path(os.path.dirname(current) or ".")
    below = [path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
    start = current[: len(current) - len(os.path.basename(current))]
    return [f"{start}{path.name}{'' if (path / 'config.json').exists() else '/'}" for path in below]
