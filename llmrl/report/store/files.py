"""The files of one run, checked as they are read: a corrupt line is named by file and number, and is never a number."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from llmrl.llm.transcript import ReplayError, Transcript
from llmrl.runs.files import read_json

TAIL_EPISODES = 100


class DamagedFile(Exception):
    """A file of a run does not hold what it should; the text names file and line."""


@dataclass(frozen=True)
class Evals:
    """The greedy evaluations of a run."""

    steps: NDArray  # int64 (n,), rising: env_steps, or updates of an offline run
    returns: NDArray  # float64 (n, episodes); NaN where an evaluation had fewer episodes

    @property
    def means(self) -> NDArray:
        """Mean return of each evaluation, (n,)."""
        return np.nanmean(self.returns, axis=1) if len(self.returns) else np.empty(0)


NO_EVALS = Evals(np.empty(0, np.int64), np.empty((0, 0)))


@dataclass(frozen=True)
class Train:
    """The training episodes of a run, played while exploring."""

    env_steps: NDArray  # int64 (m,), at the episode's end
    returns: NDArray  # float64 (m,)
    lengths: NDArray  # int64 (m,), env_steps


def json_object(path: Path) -> dict:
    """The object in a file. Raises DamagedFile where the file is missing or holds something else."""
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise DamagedFile(f"{path}: is missing; the run never began, or its directory was deleted in part") from None
    except json.JSONDecodeError as error:
        raise DamagedFile(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path}, line 1: not a JSON object")
    return value


def rows(path: Path, whole: bool, tail: int | None = None) -> list[dict]:
    """The rows of a jsonl file, or those of its last `tail` bytes. A torn last line is left out, unless the file has to
    be `whole` (the run is done). Raises DamagedFile at the first line that is not a row."""
    if not path.exists():
        raise DamagedFile(f"{path}: is missing; the run's directory was deleted in part")
    with open(path, "rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - tail) if tail else 0
        file.seek(start)
        data = file.read()
    if start:
        first = data.find(b"\n") + 1
        start, data = start + first, data[first:]
    lines = data.split(b"\n")
    if not whole or not lines[-1]:
        lines.pop()
    parsed = []
    for number, line in enumerate(lines):
        try:
            parsed.append(from_json(line))  # of pydantic: as exact as json's, and four times as fast
        except ValueError:
            parsed.append(None)
        if not isinstance(parsed[-1], dict):
            number += 1 + path.read_bytes()[:start].count(b"\n")
            raise DamagedFile(f"{path}, line {number}: not a JSON object: {line[:60].decode(errors='replace')!r}")
    return parsed


def evaluations(
    path: Path, whole: bool, evaluation_set: str | None = None, key: str = "returns"
) -> tuple[Evals, tuple[float, ...] | None]:
    """The evaluations on an evaluation set (None: greedy ones on the common cases; "sampled", "sampled on <set>": those
    with sampled actions), and the random policy's returns. `key`: what of the episodes counts as `returns`, them or a
    rule of success. Each row's mean return is its check sum."""
    if not path.exists() and not whole:
        return NO_EVALS, None
    policy = f"greedy on {evaluation_set}" if evaluation_set else "greedy"
    if evaluation_set and evaluation_set.startswith("sampled"):
        policy = evaluation_set
    steps, means, returns, lines, line, random = [], [], [], [], 0, None
    try:
        for line, row in enumerate(rows(path, whole), start=1):
            if row["policy"] == policy and (key == "returns" or key in row):
                steps.append(row["env_steps"] or row.get("updates", 0))  # an offline run makes no env_steps
                means.append(row["return_mean"])
                returns.append(row[key])
                lines.append(line)
            elif row["policy"] == "random":
                random = tuple(map(float, row["returns"]))
        if not steps:
            return NO_EVALS, random
        widths = {len(r) for r in returns}
        if 0 in widths:
            line = next(at for at, r in zip(lines, returns) if not r)
            raise ValueError("no episode")
        if len(widths) > 1:
            returns = [r + [np.nan] * (max(widths) - len(r)) for r in returns]
        evals = Evals(np.array(steps, np.int64), np.array(returns, np.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path}, line {line}: not an evaluation ({type(error).__name__}: {error})") from None
    if key == "returns" and (bad := ~np.isclose(evals.means, means, rtol=1e-9, atol=1e-9)).any():
        raise DamagedFile(f"{path}, line {lines[int(bad.argmax())]}: return_mean is not the mean of returns")
    if (back := np.diff(evals.steps) <= 0).any():
        raise DamagedFile(f"{path}, line {lines[int(back.argmax()) + 1]}: env_steps do not rise")
    return evals, random


def evaluated(path: Path, key: str, evaluation_set: str | None, kind: str, k: int) -> float | None:
    """The mean of `key` ("returns", or a rule of success) of greedy evaluations on an evaluation set (None: the common
    cases), over the "last" or the last k of them, or the "best" one; None where there is none, or `kind` is of
    training. Raises DamagedFile."""
    means = evaluations(path, True, evaluation_set, key)[0].means
    if not len(means) or kind.startswith("train_last"):
        return None
    return float({"last": means[-1], "best": means.max(), "mean_last_k": means[-k:].mean()}[kind])


def _episodes(path: Path, whole: bool, tail: int | None = None) -> list[dict]:
    return [row for row in rows(path, whole, tail) if row.get("kind") == "episode"]


def train(path: Path, whole: bool) -> Train:
    """All training episodes. Raises DamagedFile."""
    episodes = _episodes(path, whole)
    steps, returns, lengths = ([row[key] for row in episodes] for key in ("env_steps", "return", "length"))
    return Train(np.array(steps, np.int64), np.array(returns, np.float64), np.array(lengths, np.int64))


Mean = tuple[float, int] | None  # mean return of episodes and their number


def train_last(path: Path, whole: bool, env_steps: int) -> tuple[Mean, Mean]:
    """Of the last 100 training episodes, and of those that ended in the last tenth of `env_steps`; from the end of
    metrics.jsonl."""
    if not path.exists() and not whole:
        return None, None
    tail: int | None = 1 << 14
    episodes = _episodes(path, whole, tail)
    begin = 0.9 * max([env_steps, *(row["env_steps"] for row in episodes[-1:])])
    while tail is not None and (len(episodes) < TAIL_EPISODES or episodes[0]["env_steps"] > begin):
        tail = tail * 4 if tail * 4 < path.stat().st_size else None
        episodes = _episodes(path, whole, tail)
    return _mean(episodes[-TAIL_EPISODES:]), _mean([row for row in episodes if row["env_steps"] > begin])


def _mean(episodes: list[dict]) -> Mean:
    return (float(np.mean([row["return"] for row in episodes])), len(episodes)) if episodes else None


def llm_usage(path: Path, config: dict) -> dict[str, Any] | None:
    """The LLM usage of an unfinished run so far."""
    if not path.exists():
        return None
    try:
        return {"model": config.get("llm", {}).get("model"), **Transcript(path, read_only=True).usage()}
    except (ReplayError, KeyError, TypeError) as error:
        named = str(error) if isinstance(error, ReplayError) else f"{path}: not a transcript ({error})"
        raise DamagedFile(named) from None


def steps_per_s(path: Path) -> float | None:
    """Median env_steps/s, or updates/s of an offline run. timing.jsonl is never cut, so a line that a kill tore stays
    in it, and is passed over."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 13)))
            found = re.findall(rb'"(?:env_steps|updates)_per_s": ([0-9.]+)', file.read())
    except OSError:
        return None
    rates = [rate for rate in map(float, found) if rate > 0]
    return float(np.median(rates)) if rates else None
