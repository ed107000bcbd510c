"""Which directories the page may read: runs below outputs/, by their path in it, and nothing that a link leads to
elsewhere."""

import os
from pathlib import Path

from llmrl.report.store.groups import outputs_of, runs_below
from llmrl.report.store.reading import READ

MARKS = ("config.json", "status.json", "identity.json")  # any of them makes a directory a run
FILES = (*READ, "artifact.json", "error.txt")  # of a run, that the page reads


class NoSuchRun(Exception):
    """There is no run of this name below outputs/, or it leads elsewhere."""


def outputs_above(root: Path) -> Path:
    """Where studies lie, from outputs/ itself or a directory in it, which may be a study."""
    run = next(runs_below(root), None)
    outputs = outputs_of(run.parents[2]) if run else root
    return outputs if root.is_relative_to(outputs) else root


def run_at(outputs: Path, name: str) -> Path:
    """The directory of a run, from its path below `outputs`, which is resolved. Raises NoSuchRun."""
    parts = name.split("/")
    if "\0" in name or "\\" in name or any(part.startswith(".") or not part for part in parts):
        raise NoSuchRun(f"there is no run {name!r}")
    path = outputs.joinpath(*parts)
    try:
        if not path.is_relative_to(outputs) or path.resolve() != path or not any((path / m).is_file() for m in MARKS):
            raise NoSuchRun(f"there is no run {name!r}")
    except OSError:  # a name too long, a directory that may not be read
        raise NoSuchRun(f"there is no run {name!r}") from None
    if not contained(path, outputs):
        raise NoSuchRun(f"files of {name!r} are links that lead out of {outputs}")
    return path


def contained(path: Path, outputs: Path) -> bool:
    """Whether no file of a run is a link that leads out of `outputs`."""
    links = [path / name for name in FILES if os.path.islink(path / name)]
    return all(link.resolve().is_relative_to(outputs) for link in links)
