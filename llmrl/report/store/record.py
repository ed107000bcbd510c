"""One run as a record: where it stands, what made it, its evaluations; and single numbers of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from llmrl.report.store import files
from llmrl.report.store.files import Evals, Train
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE

Kind = Literal["last", "best", "mean_last_k", "train_last_100", "train_last_tenth"]


@dataclass(frozen=True)
class RunRecord:
    """One run. Of a damaged one only the path and its names are certain."""

    path: Path
    study: str
    method: str
    agent: str
    env: str  # as in env=…: atari/freeway
    seed: int
    id: str
    damage: tuple[str, ...]  # what is corrupt or missing, by file and line
    status: str  # "" where it is not known
    reason: str | None
    unit: str  # of its length: env_steps, or updates of an offline run
    steps: int
    target_steps: int | None
    code: str | None  # of its last start
    codes: tuple[str, ...]  # all codes of its starts: more than one is a mixed run
    processors: tuple[str, ...]  # of its starts, where recorded
    packages: dict[str, str | None]
    random: tuple[float, ...] | None  # returns of the random policy on the same cases
    train_tenth: tuple[float, int] | None  # of the episodes that ended in its last tenth
    train_last: tuple[float, int] | None  # mean return of the last 100 training episodes, or of as many as there are
    result: dict[str, Any] | None
    llm: dict[str, Any] | None  # model, calls, tokens, usd, failures and rejected by reason; None: no LLM was asked
    steps_per_s: float | None  # median of the newest lines of timing.jsonl
    evals: Evals

    @property
    def damaged(self) -> bool:
        return bool(self.damage)

    @property
    def only_evaluates(self) -> bool:
        """Whether it is done without a training step: an evaluation-only baseline."""
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
        """All training episodes, read on first use. Raises DamagedFile."""
        return files.train(self.path / "metrics.jsonl", whole=self.status == DONE)


def score(record: RunRecord, kind: Kind, *, k: int = 5) -> float | None:
    """One number of a run, None where it is damaged or has none. An unfinished run gives what it has so far.

    Args:
        kind: the "last" or "best" greedy evaluation, the mean of the last k ("mean_last_k"), or the mean return of the
            last 100 training episodes ("train_last_100"; of all where there are fewer), or of those that ended in the
            last tenth of its env_steps ("train_last_tenth").
    """
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
