"""All runs below outputs/, as records: every table, figure and page starts here."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from llmrl.report.store import index
from llmrl.report.store.reading import RUN_NAME, read_run, read_runs
from llmrl.report.store.record import RunRecord
from llmrl.waiting import on


def load(outputs: Path, *, studies: Iterable[str] | None = None) -> list[RunRecord]:
    """All runs below `outputs` (of these studies), in order of their paths. Replaced runs, sweeps, artifacts and what
    lies inside a run are not counted; symbolic links are not followed."""
    outputs, requested = Path(outputs), None if studies is None else set(studies)
    records: list[RunRecord] = []
    for top in _directories(outputs):
        if top.name == "artifacts" or (requested is not None and all(s.split("/")[0] != top.name for s in requested)):
            continue
        records += [r for r in _load_top(outputs, Path(top)) if requested is None or r.study in requested]
    return records


def load_artifact(path: Path, outputs: Path) -> RunRecord | None:
    """The run in a directory of outputs/artifacts; None where there is none."""
    return read_run(path, outputs) if (path / "config.json").exists() else None


def _load_top(outputs: Path, top: Path) -> list[RunRecord]:
    """The runs below one directory of `outputs`: unchanged ones from the index, the others from their files."""
    file = outputs / ".index" / f"{quote(top.name, safe='')}.npz"
    known = index.read(file, outputs)
    stamps = {str(path.relative_to(outputs)): index.stamp_of(path) for path in _runs(top)}
    same = {name: known[name][1] for name, stamp in stamps.items() if name in known and known[name][0] == stamp}
    changed = [name for name in stamps if name not in same]
    with on(f"reading {len(changed)} runs of {top}"):
        read = dict(zip(changed, read_runs([outputs / name for name in changed], outputs)))
    found = {name: same.get(name) or read[name] for name in stamps}
    keep = {
        name: (stamps[name], record)
        for name, record in found.items()
        if name in same or (index.lasting(record) and index.settled(stamps[name]))
    }
    if keep.keys() != same.keys() or known.keys() != same.keys():
        index.write(file, keep)
    return list(found.values())


def _directories(path: Path | str) -> list[os.DirEntry]:
    try:
        with os.scandir(path) as entries:
            inside = [e for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(inside, key=lambda entry: entry.name)


def _runs(path: Path | str) -> Iterator[Path]:
    """Directories named like runs, and none inside another."""
    for entry in _directories(path):
        if RUN_NAME.fullmatch(entry.name):
            yield Path(entry.path)
        else:
            yield from _runs(entry.path)
