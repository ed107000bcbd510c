"""A run that is finished: found again by the command that made it, shown, and set aside for another one."""

from functools import cache
from pathlib import Path
from typing import Any

from llmrl.conf_files import folder_of
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE, RunDirectory, code_name, code_state

NO_RESULT = ("log", "compute", "rerun", "objective")  # keys of a node that change none


def finished_before(node: dict[str, Any], outputs: Path) -> RunDirectory | None:
    """A finished run of exactly this node below `outputs`, found without importing torch; other spellings of it are
    found by id."""
    weights = node["llm"].get("weights")  # counts by content, which the node does not hold, like the next two
    if node["llm"].get("replay") is not None or node.get("wrapper") or (weights and Path(str(weights)).exists()):
        return None
    names = node["choices"]
    env = names["env"].replace("/", "-")
    folder = outputs / str(node["study"]) / folder_of(names) / env
    for path in folder.glob(f"s{node['seed']}-*/config.json"):
        directory = RunDirectory(path.parent)
        try:
            if directory.status().get("status") == DONE and same_run(read_json(path), node):
                return directory
        except ValueError:  # a damaged config.json: the run is found by its id
            continue
    return None


def same_run(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two nodes can only differ in what changes no result."""

    def relevant(node: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in node.items() if k not in NO_RESULT} | {"device": node["compute"]["device"]}

    return relevant(a) == relevant(b)


def tell_finished(directory: RunDirectory) -> None:
    """Shows its result, and whether other code made it."""
    made_by = read_json(directory / "versions.json")["starts"][-1]["code"]
    now = _code_now()
    show_result(directory, "Done before, nothing to do")
    if code_name(made_by) != code_name(now):
        print(f"It was made by other code ({code_name(made_by)}; this is {code_name(now)}): rerun=true makes it anew.")


@cache
def _code_now() -> dict[str, Any]:
    """This process's code, asked of git once: a sweep over a thousand finished runs would ask a thousand times."""
    return code_state()


def show_result(directory: RunDirectory, title: str) -> None:
    """Prints what the run came to, under its name."""
    from llmrl.runs.console import print_result

    config = read_json(directory / "config.json")
    names = config["choices"]
    what = f"{names['method']} · {names['agent']} · {names['env']} · seed {config['seed']}"
    print_result(directory.path, read_json(directory / "result.json"), title=f"{title}: {what}")


def set_aside(path: Path, outputs: Path) -> Path:
    """Moves a finished run to outputs/.replaced/, from where it can be had back. Returns where it is now."""
    target = outputs / ".replaced" / path.relative_to(outputs)
    number = 0
    while (numbered := target.with_name(f"{target.name}-{number}")).exists():
        number += 1
    numbered.parent.mkdir(parents=True, exist_ok=True)
    path.rename(numbered)
    return numbered
