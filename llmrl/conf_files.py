"""Where the yaml files and published numbers are. Imports nothing heavy: `list`, `--help` and completion live on it.

`LLMRL_PATH=/my/lab` (several with ':') adds a directory that looks like the project: its conf/ is searched too, its
agents/, methods/ and envs/ for modules and published numbers, its published/ for more numbers. That is how a file and a
yaml outside this package become an agent, and a folder becomes a paper.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from llmrl import registered

GROUPS = {
    "method": "what happens: plain training, or with an LLM",
    "agent": "the RL algorithm",
    "env": "the task",
    "wrapper": "what changes the agent's observations and rewards",
    "llm": "the language model that is asked",
    "experiment": "a preset: one setting of a paper, or the quickstart",
    "budget": "how long: smoke, short or paper",
    "eval": "the evaluation beside training",
    "log": "progress, wandb",
    "compute": "device, threads, checkpoints, outputs",
}


@cache
def extra_roots() -> list[Path]:
    """The directories of LLMRL_PATH, there or not."""
    named = (Path(p).expanduser().resolve() for p in os.environ.get("LLMRL_PATH", "").split(":") if p)
    return list(dict.fromkeys(named))


@cache
def conf_root() -> Path:
    """conf/ beside the package in a clone, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    beside = package.parent / "conf"
    return beside if (beside / "run.yaml").exists() else package / "conf"


def conf_roots() -> list[Path]:
    return [conf_root(), *(root / "conf" for root in extra_roots())]


def extend_packages() -> None:
    """Makes modules below LLMRL_PATH importable as llmrl.agents.<name> and so on. Importing llmrl does it, so that it
    holds in every process that could need one: those of a search, of a pool, of whatever unpickles a Config."""
    import llmrl.agents
    import llmrl.envs
    import llmrl.methods

    for package in (llmrl.agents, llmrl.envs, llmrl.methods):
        for root in extra_roots():
            folder = str(root / package.__name__.rpartition(".")[2])
            if folder not in package.__path__:
                package.__path__.append(folder)
    if extra_roots():
        os.environ["LLMRL_PATH"] = ":".join(map(str, extra_roots()))  # absolute: a child may begin elsewhere


def options(group: str) -> list[str]:
    """All choices of a group, such as mujoco/hopper for env: of files and of api.register. Files and folders that start
    with _ are parts, not choices; neither is a group inside a group (env/atari/preprocess)."""
    found = set(registered.names(group))
    for root in conf_roots():
        folder = root / group
        for file in folder.rglob("*.yaml"):
            parts = file.relative_to(folder).with_suffix("").parts
            if not any(part.startswith("_") for part in parts) and len(parts) <= 2:
                found.add("/".join(parts))
    return sorted(found)


def inner_groups(group: str) -> list[str]:
    """Groups inside a group, such as env/atari/preprocess."""
    folders = {f.parent for root in conf_roots() for f in (root / group).glob("*/*/*.yaml")}
    return sorted({"/".join(folder.parts[-3:]) for folder in folders})


def group_file(group: str, choice: str) -> Path | None:
    """The yaml of a choice; None where there is none."""
    for root in conf_roots():
        if (file := root / group / f"{choice}.yaml").exists():
            return file
    return None


def published_files() -> list[Path]:
    """The csv files of published numbers (report/published.py): of papers, of suites, then the others of LLMRL_PATH."""
    import llmrl.envs
    import llmrl.methods

    patterns = [(Path(folder), "*/published.csv") for folder in llmrl.methods.__path__]
    patterns += [(Path(folder), "published/*.csv") for folder in llmrl.envs.__path__]
    patterns += [(root, "published/*.csv") for root in extra_roots()]
    return [file for folder, pattern in patterns for file in sorted(folder.glob(pattern))]


def folder_of(choices: Mapping[str, str]) -> str:
    """The directory that the runs of one method and agent share, such as kalm_policy-fixed."""
    return f"{choices['method'].replace('/', '_')}-{choices['agent']}"


def shown(path: Path) -> str:
    """A path as people write it: from the current directory where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
