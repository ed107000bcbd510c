"""Runs as a program lists them (api.runs): a sequence of typed records, and data frames of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from llmrl.checks import ConfigError
from llmrl.report.store import files
from llmrl.report.store.groups import runs_below, select
from llmrl.report.store.record import RunRecord, dollars, score
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE, RunDirectory

if TYPE_CHECKING:
    import pandas

DAMAGED = "DAMAGED"


@dataclass(frozen=True)
class Run:
    """One run as it stands on disk: a row of `Runs.to_frame()`.

    Args:
        path: its directory.
        study: the name of the runs that it belongs to.
        method: as in `method=…`.
        agent: as in `agent=…`.
        env: as in `env=…`.
        seed: of its training.
        status: DONE, RUNNING, WAITING, INTERRUPTED, PAUSED, FAILED, DAMAGED, or "" before it has one.
        reason: why it is not DONE, or what of it is damaged; None where there is no reason.
        env_steps: the agent's decisions so far.
        updates: gradient updates so far.
        last_return: mean undiscounted return of its newest greedy evaluation; None before the first.
        best_return: the highest of these means.
        random_return: the random policy's mean return on the same cases.
        success: shares of episodes of the newest evaluation that reached the goal, by rule ("success", …); {} where the
            environment reports none.
        llm: the language model that was asked; None where none was, as for all that follows.
        llm_calls: answered calls.
        llm_failures: attempts that brought no answer, and answers that could not be used.
        usd: what the calls cost, in US dollars; None where one of them has no known price, too.
    """

    path: Path
    study: str
    method: str
    agent: str
    env: str
    seed: int
    status: str
    reason: str | None
    env_steps: int
    updates: int
    last_return: float | None
    best_return: float | None
    random_return: float | None
    success: dict[str, float]
    llm: str | None
    llm_calls: int | None
    llm_failures: int | None
    usd: float | None


TYPES = {"last_return": float, "best_return": float, "random_return": float, "usd": float,
         "llm_calls": "Int64", "llm_failures": "Int64"}  # fmt: skip
TAIL = 1 << 16  # bytes of eval.jsonl in which its newest rows stand
EVALUATION = ("run", "env_steps", "updates", "policy", "episode", "return", "length")


class Runs(Sequence[Run]):
    """The runs below a directory, in order of their paths."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> "Runs": ...

    def __getitem__(self, index: int | slice) -> "Run | Runs":
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Runs({', '.join(f'{run.path}: {run.status}' for run in self._runs)})"

    def to_frame(self, *keys: str) -> "pandas.DataFrame":
        """A row for each run, a column for each field of `Run`; of `success` one for each rule that any of them has.

        Args:
            keys: of the configuration, such as "agent.gamma": a column more for each; None where a run has no such key.

        Returns:
            The frame; `path` is text.

        Raises:
            ConfigError: pandas is not installed.
        """
        pandas = _pandas()
        names = [f.name for f in fields(Run)]
        rules = list(dict.fromkeys(rule for run in self for rule in run.success))
        at = names.index("success")
        rows = [_row(run) | _chosen(run, keys) for run in self]
        frame = pandas.DataFrame(rows, columns=[*names[:at], *rules, *names[at + 1 :], *keys])
        return frame.astype(TYPES | dict.fromkeys(rules, float))

    def evaluations(self) -> "pandas.DataFrame":
        """A row for each evaluation episode of each run that is not damaged.

        Returns:
            The frame, with the columns `run` (`path` of the run), `env_steps` and `updates` at which it was evaluated,
            `policy` ("greedy", "sampled", "random", "greedy on <evaluation set>" or "sampled on …"), `episode` (the
            number of the case, from 0; the same number is the same case in every run of one evaluation seed), `return`
            (undiscounted, in the environment's own reward) and `length` (env_steps).

        Raises:
            ConfigError: pandas is not installed.
        """
        pandas = _pandas()
        rows = [row for run in self if run.status != DAMAGED for row in _episodes(run)]
        return pandas.DataFrame(rows, columns=list(EVALUATION))


def runs_at(folder: Path) -> Runs:
    """The runs at and below a directory. Raises ConfigError where it is none."""
    if not folder.is_dir():
        raise ConfigError(f"there is no directory {folder}: runs are kept in outputs/, or where compute.outputs says")
    if next(runs_below(folder), None) is None:
        return Runs(())
    whole = folder.absolute()
    return Runs(_run(record, folder / record.path.relative_to(whole)) for record in select([folder]))


def _run(record: RunRecord, path: Path) -> Run:
    usage = None if record.damaged else record.llm or None
    result = record.result or RunDirectory(record.path).status()
    failed = [n for kind in ("failures", "rejected") for n in (usage or {}).get(kind, {}).values()]
    return Run(
        path=path, study=record.study, method=record.method, agent=record.agent, env=record.env, seed=record.seed,
        status=DAMAGED if record.damaged else record.status,
        reason="; ".join(record.damage) if record.damaged else record.reason,
        env_steps=_count(result, "env_steps"), updates=_count(result, "updates"),
        last_return=score(record, "last"), best_return=score(record, "best"),
        random_return=sum(record.random) / len(record.random) if record.random else None,
        success={} if record.damaged else _successes(record),
        llm=usage and usage["model"], llm_calls=usage and usage["calls"], llm_failures=usage and sum(failed),
        usd=usage and dollars(usage),
    )  # fmt: skip


def _count(result: dict[str, Any], unit: str) -> int:
    value = result.get(unit)
    return value if isinstance(value, int) else 0


def _successes(record: RunRecord) -> dict[str, float]:
    """Of the newest greedy evaluation, by rule."""
    if not len(record.evals.steps):
        return {}
    for tail in (TAIL, None):
        rows = [row for row in _evaluation_rows(record.path, record.status, tail) if row["policy"] == "greedy"]
        if rows:
            return {key: sum(rows[-1][key]) / len(rows[-1][key]) for key in rows[-1] if key.startswith("success")}
    return {}


def _evaluation_rows(path: Path, status: str, tail: int | None = None) -> list[dict[str, Any]]:
    if status != DONE and not (path / "eval.jsonl").exists():
        return []
    return files.rows(path / "eval.jsonl", status == DONE, tail)


def _episodes(run: Run) -> Iterator[tuple]:
    for row in _evaluation_rows(run.path, run.status):
        at = (str(run.path), row["env_steps"], row.get("updates", 0), row["policy"])
        for number, (earned, length) in enumerate(zip(row["returns"], row["lengths"])):
            yield (*at, number, earned, length)


def _row(run: Run) -> dict[str, Any]:
    values = {f.name: getattr(run, f.name) for f in fields(Run) if f.name != "success"}
    return values | {"path": str(run.path)} | run.success


def _chosen(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """Values of its configuration."""
    values: dict[str, Any] = {}
    for key in keys if run.status != DAMAGED else ():
        value = read_json(run.path / "config.json")
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        values[key] = value
    return values


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ConfigError(f'a data frame needs pandas ({error}): pip install "llmrl[frame]"') from error
    return pandas
