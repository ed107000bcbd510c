"""The index: records that were read before, kept in outputs/.index/, a file for each study.

An entry counts as long as every file that it was made from has the size and the modification time that it had then.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np

from llmrl.report.store.files import Evals
from llmrl.report.store.reading import READ
from llmrl.report.store.record import RunRecord
from llmrl.runs.files import temporary
from llmrl.runs.identity import RUNNING, WAITING

FORMAT = 3  # another one is made anew
SETTLED_S = 2.0  # a file changed more recently may change again within its time stamp's grain
Index = dict[str, tuple[str, RunRecord]]  # path below outputs -> (stamp, record)
FACTS = [f.name for f in fields(RunRecord) if f.name not in ("path", "evals")]


def stamp_of(path: Path) -> str:
    """Size and modification time of all that a record is made from; it starts with the newest of these times."""
    found, newest = [], 0
    for name in READ:
        try:
            info = os.stat(path / name)
        except OSError:
            continue
        newest = max(newest, info.st_mtime_ns)
        found.append(f"{name} {info.st_mtime_ns} {info.st_size}")
    return "; ".join([str(newest), *found])


def settled(stamp: str) -> bool:
    """Whether no file may have changed since without another stamp."""
    return time.time() - int(stamp.partition(";")[0]) / 1e9 > SETTLED_S


def lasting(record: RunRecord) -> bool:
    """Whether the record follows from the files alone: no file says whether a RUNNING run still has its process."""
    return not record.damaged and record.status not in (RUNNING, WAITING)


def write(file: Path, index: Index) -> None:
    """Evaluations of all runs in two long arrays, all else as JSON. Where it cannot be written, there is none."""
    runs = [
        {"name": name, "stamp": stamp, "shape": record.evals.returns.shape} | {k: getattr(record, k) for k in FACTS}
        for name, (stamp, record) in index.items()
    ]
    head = json.dumps({"format": FORMAT, "runs": runs}).encode()
    evals = [record.evals for _, record in index.values()]
    steps = np.concatenate([e.steps for e in evals] or [np.empty(0, np.int64)])
    returns = np.concatenate([e.returns.ravel() for e in evals] or [np.empty(0)])
    tmp = temporary(file)
    try:
        file.parent.mkdir(exist_ok=True)
        with open(tmp, "wb") as out:
            np.savez(out, head=np.frombuffer(head, np.uint8), env_steps=steps, returns=returns)
        os.replace(tmp, file)
    except OSError:
        with suppress(OSError):
            tmp.unlink()


def read(file: Path, outputs: Path) -> Index:
    """The entries of an index; none where it is missing, damaged or of another format."""
    try:
        with np.load(file) as held:  # npz members carry check sums
            head, steps, returns = json.loads(held["head"].tobytes()), held["env_steps"], held["returns"]
        if head["format"] != FORMAT:
            return {}
        index: Index = {}
        row = cell = 0
        for run in head["runs"]:
            name, stamp, (n, episodes) = run.pop("name"), run.pop("stamp"), run.pop("shape")
            evals = Evals(steps[row : row + n], returns[cell : cell + n * episodes].reshape(n, episodes))
            row, cell = row + n, cell + n * episodes
            tuples = {k: tuple(v) for k, v in run.items() if isinstance(v, list)}
            index[name] = stamp, RunRecord(path=outputs / name, evals=evals, **run | tuples)
        return index
    except Exception:  # whatever is wrong with an index, it can be made anew
        return {}
