"""All runs below outputs/, as records: where a run stands, what made it, its evaluations. Every table starts here.

A record is made from the run's own files alone. What is corrupt or missing is named in `damage`, and a damaged run
gives no number. What was read once is kept in outputs/.index/, a file for each study; an entry counts only as long as
every file that it was made from has the size and the modification time that it had then.
"""

import json
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from llmrl.report import run_files
from llmrl.report.run_files import NO_EVALS, DamagedFile, Evals, Train
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE, RUNNING, WAITING, RunDirectory, code_name, unit_of
from llmrl.runs.processor import processor_name

RUN_NAME = re.compile(r"s(\d+)-([0-9a-f]{8})")
FORMAT = 3  # of the index; another one is made anew
SETTLED_S = 2.0  # a file changed more recently may change again within its time stamp's grain
ALWAYS = ("config.json", "identity.json", "status.json", "versions.json")
WHEN_DONE = ("metrics.jsonl", "eval.jsonl", "result.json")
READ = (*ALWAYS, *WHEN_DONE, "llm.jsonl", "timing.jsonl")
MANY = 400  # runs to read from which on a process for each core pays
Kind = Literal["last", "best", "mean_last_k", "train_last_100", "train_last_tenth"]


@dataclass(frozen=True)
class RunRecord:
    """One run. Of a damaged one only the path and what it is called are sure."""

    path: Path
    study: str
    method: str
    agent: str
    env: str  # as in env=…: atari/freeway
    seed: int
    id: str
    damage: tuple[str, ...]  # what is corrupt or missing, by file and line
    status: str  # "" where nothing says it
    reason: str | None
    unit: str  # what it is measured in: env_steps, or updates of an offline run
    steps: int
    target_steps: int | None
    code: str | None  # that the run was last started with
    codes: tuple[str, ...]  # all codes of its starts: more than one is a mixed run
    processors: tuple[str, ...]  # of its starts, where they say it
    packages: dict[str, str | None]
    random: tuple[float, ...] | None  # returns of the random policy on the same cases
    train_tenth: tuple[float, int] | None  # of the episodes that ended in its last tenth
    train_last: tuple[float, int] | None  # mean return of the last 100 training episodes, or of as many as there are
    result: dict[str, Any] | None
    llm: dict[str, Any] | None  # model, calls, tokens, usd, failures by reason; None: no LLM asked
    steps_per_s: float | None  # median of the newest lines of timing.jsonl
    evals: Evals

    @property
    def damaged(self) -> bool:
        return bool(self.damage)

    @property
    def learns_nothing(self) -> bool:
        """Whether it is done without a step: its evaluation stands for all time."""
        return self.status == DONE and self.steps == 0

    @cached_property
    def config(self) -> dict[str, Any]:
        """The composed configuration."""
        return read_json(self.path / "config.json")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The part of the configuration that can change a result."""
        return read_json(self.path / "identity.json")

    @cached_property
    def train(self) -> Train:
        """All training episodes, read when asked for. Raises DamagedFile."""
        return run_files.train(self.path / "metrics.jsonl", whole=self.status == DONE)


def score(record: RunRecord, kind: Kind, *, k: int = 5) -> float | None:
    """One number for a run: its "last" or "best" greedy evaluation, the mean of its last k ("mean_last_k"), or the mean
    return of its last 100 training episodes ("train_last_100"; of all where there are fewer), or of those that ended in
    the last tenth of its env_steps ("train_last_tenth"). None where the run is
    damaged or has nothing of the kind. An unfinished run gives what it has: whoever asks looks at `status`."""
    if record.damaged:
        return None
    if kind == "train_last_100":
        return record.train_last[0] if record.train_last else None
    if kind == "train_last_tenth":
        return record.train_tenth[0] if record.train_tenth else None
    means = record.evals.means
    if not len(means):
        return None
    return float({"last": means[-1], "best": means.max(), "mean_last_k": means[-k:].mean()}[kind])


def dollars(usage: Mapping[str, Any]) -> float | None:
    """What a run's calls cost; None where one of them has no known price."""
    return None if usage.get("calls_without_price") else usage["usd"]


def load(outputs: Path, *, studies: Iterable[str] | None = None) -> list[RunRecord]:
    """All runs below `outputs` (of these studies), in order of their paths. Replaced runs, sweeps, artifacts and what
    lies inside a run are not counted; symbolic links are not followed."""
    outputs, wanted = Path(outputs), None if studies is None else set(studies)
    records: list[RunRecord] = []
    for top in _directories(outputs):
        if top.name == "artifacts" or (wanted is not None and all(s.split("/")[0] != top.name for s in wanted)):
            continue
        records += [r for r in _load_top(outputs, Path(top)) if wanted is None or r.study in wanted]
    return records


def load_artifact(path: Path, outputs: Path) -> RunRecord | None:
    """The run in a directory of outputs/artifacts; None where there is none."""
    return _read_run(path, outputs) if (path / "config.json").exists() else None


def _load_top(outputs: Path, top: Path) -> list[RunRecord]:
    """The runs below one directory of `outputs`: from the index what has not changed, the rest from its files."""
    file = outputs / ".index" / f"{quote(top.name, safe='')}.npz"
    index = _read_index(file, outputs)
    stamps = {str(path.relative_to(outputs)): _stamp(path) for path in _runs(top)}
    same = {name: index[name][1] for name, stamp in stamps.items() if name in index and index[name][0] == stamp}
    changed = [name for name in stamps if name not in same]
    read = dict(zip(changed, _read_all([outputs / name for name in changed], outputs)))
    found = {name: same.get(name) or read[name] for name in stamps}
    keep = {n: (stamps[n], r) for n, r in found.items() if n in same or (_lasting(r) and _settled(stamps[n]))}
    if keep.keys() != same.keys() or index.keys() != same.keys():
        _write_index(file, keep)
    return list(found.values())


def _lasting(record: RunRecord) -> bool:
    """Whether the files tell all: whether a RUNNING run still has its process stands in none."""
    return not record.damaged and record.status not in (RUNNING, WAITING)


# --- finding runs -----------------------------------------------------------------------------------------------------


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


def _stamp(path: Path) -> str:
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


def _settled(stamp: str) -> bool:
    return time.time() - int(stamp.partition(";")[0]) / 1e9 > SETTLED_S


# --- reading a run ----------------------------------------------------------------------------------------------------


def _read_all(paths: list[Path], outputs: Path) -> list[RunRecord]:
    cores = len(os.sched_getaffinity(0))
    if len(paths) >= MANY and cores > 1:
        try:
            with ProcessPoolExecutor(min(cores, 8), mp_context=multiprocessing.get_context("spawn")) as processes:
                return list(processes.map(_read_run, paths, repeat(outputs), chunksize=50))
        except (BrokenProcessPool, OSError):
            pass  # a main module that cannot be imported again, or no room for processes: one after the other
    return [_read_run(path, outputs) for path in paths]


def _read_run(path: Path, outputs: Path) -> RunRecord:
    damage: list[str] = []

    def sound(read: Callable[..., Any], name: str, *args: Any) -> Any:
        """What `read` makes of a file; None where it cannot, and then `damage` says why."""
        try:
            return read(path / name, *args)
        except DamagedFile as error:
            damage.append(str(error))
        except OSError as error:
            damage.append(f"{path / name}: cannot be read ({error.strerror})")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            damage.append(f"{path / name}: not what a run writes ({type(error).__name__}: {error})")
        return None

    config, _, status, versions = (sound(run_files.json_object, name) or {} for name in ALWAYS)
    if not isinstance(status.get("status", ""), str):
        damage.append(f"{path / 'status.json'}: status is no text")
        status = {}
    done = status.get("status") == DONE
    result = sound(run_files.json_object, "result.json") if done else None
    evals, random = sound(run_files.evaluations, "eval.jsonl", done) or (NO_EVALS, None)
    train_last, train_tenth = (
        sound(run_files.train_last, "metrics.jsonl", done, status.get("env_steps", 0)) or (None,) * 2
    )
    llm = sound(run_files.llm_usage, "llm.jsonl", config) if not done else (result or {}).get("llm")
    if done and len(evals.steps) and (end := evals.steps[-1]) < (at := status.get(unit_of(status), 0)):
        damage.append(f"{path / 'eval.jsonl'}: ends at {end} {unit_of(status)}, the run at {at}")
    status = RunDirectory(path).status() or status
    if damage and not (status and config) and RunDirectory(path).alive():
        damage, status = [], {"status": RUNNING, "reason": "starting"}
    if damage:
        evals, random, train_last, train_tenth = NO_EVALS, None, None, None
    starts = versions.get("starts") or [{}]
    codes = [code_name(start["code"]) for start in starts if "code" in start]
    return RunRecord(
        path=path,
        **_names(path, outputs, config),
        damage=tuple(damage),
        **_standing(status),
        code=codes[-1] if codes else None,
        codes=tuple(dict.fromkeys(codes)),
        processors=tuple(dict.fromkeys(name for start in starts if (name := processor_name(start)))),
        packages=starts[-1].get("packages", {}),
        random=random,
        train_last=train_last,
        train_tenth=train_tenth,
        result=result,
        llm=llm,
        steps_per_s=run_files.steps_per_s(path / "timing.jsonl"),
        evals=evals,
    )


def _names(path: Path, outputs: Path, config: dict) -> dict[str, Any]:
    """What a run is called: by its configuration, or, where that is lost, by its path."""
    *study, name, env, run = ("", "", *path.relative_to(outputs).parts)
    named = RUN_NAME.fullmatch(run)
    seed, identity = named.groups() if named else (config.get("seed", 0), run)  # an artifact's name is its id alone
    method, _, agent = name.partition("-")
    by_path = {"method": method, "agent": agent, "env": env.replace("-", "/", 1)}
    names = {key: config.get("choices", {}).get(key, by_path[key]) for key in by_path}
    return names | {"study": "/".join(filter(None, study)), "seed": int(seed), "id": identity}


def _standing(status: dict) -> dict[str, Any]:
    unit = unit_of(status)
    return {
        "status": status.get("status", ""), "reason": status.get("reason"), "unit": unit,
        "steps": status.get(unit, 0), "target_steps": status.get(f"target_{unit}"),
    }  # fmt: skip


# --- the index --------------------------------------------------------------------------------------------------------

Index = dict[str, tuple[str, RunRecord]]  # path below outputs -> (stamp, record)
FACTS = [f.name for f in fields(RunRecord) if f.name not in ("path", "evals")]


def _write_index(file: Path, index: Index) -> None:
    """Evaluations of all runs in two long arrays, all else as JSON. Where it cannot be written, there is none."""
    runs = [
        {"name": name, "stamp": stamp, "shape": record.evals.returns.shape} | {k: getattr(record, k) for k in FACTS}
        for name, (stamp, record) in index.items()
    ]
    head = json.dumps({"format": FORMAT, "runs": runs}).encode()
    evals = [record.evals for _, record in index.values()]
    steps = np.concatenate([e.steps for e in evals] or [np.empty(0, np.int64)])
    returns = np.concatenate([e.returns.ravel() for e in evals] or [np.empty(0)])
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(exist_ok=True)
        with open(temporary, "wb") as out:
            np.savez(out, head=np.frombuffer(head, np.uint8), env_steps=steps, returns=returns)
        os.replace(temporary, file)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def _read_index(file: Path, outputs: Path) -> Index:
    """What an index holds; nothing where there is none, or one that is damaged or has another format."""
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
