"""The files of a run -> its record. What is corrupt or missing is named in `damage`; a damaged run gives no number."""

import multiprocessing
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import Any

from llmrl.report.store import files
from llmrl.report.store.files import NO_EVALS, DamagedFile
from llmrl.report.store.record import RunRecord
from llmrl.runs.identity import DONE, RUNNING, RunDirectory, code_name, unit_of
from llmrl.runs.processor import processor_name

RUN_NAME = re.compile(r"s(\d+)-([0-9a-f]{8})")
ALWAYS = ("config.json", "identity.json", "status.json", "versions.json")
WHEN_DONE = ("metrics.jsonl", "eval.jsonl", "result.json")
READ = (*ALWAYS, *WHEN_DONE, "llm.jsonl", "timing.jsonl")
MANY = 400  # runs to read from which on a process for each core pays


def read_runs(paths: list[Path], outputs: Path) -> list[RunRecord]:
    """The runs in these directories, in their order; many of them side by side."""
    cores = len(os.sched_getaffinity(0))
    if len(paths) >= MANY and cores > 1:
        try:
            with ProcessPoolExecutor(min(cores, 8), mp_context=multiprocessing.get_context("spawn")) as processes:
                return list(processes.map(read_run, paths, repeat(outputs), chunksize=50))
        except (BrokenProcessPool, OSError):
            pass  # a main module that cannot be imported again, or no room for processes: one after the other
    return [read_run(path, outputs) for path in paths]


def read_run(path: Path, outputs: Path) -> RunRecord:
    """The run in a directory below `outputs`. Whatever its files hold, it is a record: damaged, if need be."""
    try:
        return _record(path, outputs)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # JSON, but of another shape
        text = f"{path}: its files are not what a run writes ({type(error).__name__}: {error})"
        return RunRecord(
            path=path, **_names(path, outputs, {}), damage=(text,), **_standing({}), code=None, codes=(), processors=(),
            packages={}, random=None, train_last=None, train_tenth=None, result=None, llm=None, steps_per_s=None,
            evals=NO_EVALS,
        )  # fmt: skip


def _record(path: Path, outputs: Path) -> RunRecord:
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

    config, _, status, versions = (sound(files.json_object, name) or {} for name in ALWAYS)
    if not isinstance(status.get("status", ""), str):
        damage.append(f"{path / 'status.json'}: status is not a text")
        status = {}
    done = status.get("status") == DONE
    result = sound(files.json_object, "result.json") if done else None
    evals, random = sound(files.evaluations, "eval.jsonl", done) or (NO_EVALS, None)
    train_last, train_tenth = sound(files.train_last, "metrics.jsonl", done, status.get("env_steps", 0)) or (None,) * 2
    llm = sound(files.llm_usage, "llm.jsonl", config) if not done else (result or {}).get("llm")
    if done and len(evals.steps) and (end := evals.steps[-1]) < (at := status.get(unit_of(status), 0)):
        damage.append(f"{path / 'eval.jsonl'}: ends at {end} {unit_of(status)}, the run at {at}")
    status = RunDirectory(path).status() or status
    if damage and not (status and config) and RunDirectory(path).alive():
        damage, status = [], {"status": RUNNING, "reason": "starting"}
    if damage and config and "job" in status and not done and not (path / "versions.json").exists():
        damage = []  # it was handed in, and has never begun: it waits, was cancelled, or was given up
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
        steps_per_s=files.steps_per_s(path / "timing.jsonl"),
        evals=evals,
    )


def _names(path: Path, outputs: Path, config: dict) -> dict[str, Any]:
    """A run's names, from its configuration, or from its path where that is lost."""
    *study, name, env, run = ("", "", *path.relative_to(outputs).parts)
    named = RUN_NAME.fullmatch(run)
    seed, identity = named.groups() if named else (config.get("seed", 0), run)  # an artifact's name is its id alone
    method, _, agent = name.partition("-")
    by_path = {"method": method, "agent": agent, "env": env.replace("-", "/", 1)}
    names = {key: str(config.get("choices", {}).get(key, by_path[key])) for key in by_path}
    return names | {"study": "/".join(filter(None, study)), "seed": int(seed), "id": identity}


def _standing(status: dict) -> dict[str, Any]:
    unit = unit_of(status)
    if not all(isinstance(status.get(key) or 0, int) for key in (unit, f"target_{unit}")):
        raise TypeError(f"{unit} in status.json is not a whole number")
    return {
        "status": status.get("status", ""), "reason": status.get("reason"), "unit": unit,
        "steps": status.get(unit, 0), "target_steps": status.get(f"target_{unit}"),
    }  # fmt: skip
