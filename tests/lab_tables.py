"""A table of one's own outside the package, and run directories for its cells that no training had to make."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import SHORT, TINY

from llmrl.commands.cells import identify
from llmrl.conf_files import extra_roots, group_file
from llmrl.report.tables import definition, grid
from llmrl.runs.files import write_json

CODE = {"version": "0.1.0", "commit": "c" * 40}
OTHER_CODE = {"version": "0.1.0", "commit": "d" * 40}
BASE = [*TINY["dqn"], "env=classic/cart_pole", "budget.env_steps=60", "eval.every=20", *SHORT, "study=lab"]
TABLE = {
    "title": "DQN and LLM-Explorer",
    "base": BASE,
    "rows": {"CartPole": [], "Acrobot": ["env=classic/acrobot"]},
    "columns": {"DQN": ["method=vanilla"], "LLM": ["method=llm_explorer"]},
    "seeds": [0, 1, 2],
    "score": "train_last_100",
    "metric": "return",
}


@pytest.fixture(name="lab")
def written_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes conf/table/lab/<name>.yaml into a directory of LLMRL_PATH; returns the table as it is read."""
    monkeypatch.setenv("LLMRL_PATH", str(tmp_path / "lab"))
    monkeypatch.chdir(tmp_path)
    extra_roots.cache_clear()

    def write(name: str = "small", **changes) -> definition.Table:
        file = tmp_path / "lab" / "conf" / "table" / "lab" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(TABLE | changes))
        return definition.read(file)

    yield write
    extra_roots.cache_clear()


def cells_of(table: definition.Table, seeds: Sequence[int] | None = None, extra: Sequence[str] = ()) -> list[grid.Cell]:
    return grid.cells(table, list(table.rows), list(table.columns), seeds or table.seeds, extra, identify)


@functools.cache
def identified(overrides: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[grid.PlannedRun, ...]:
    """`identify`, once for equal runs of the package's tables."""
    return identify(overrides, seeds)


@functools.cache
def overrides_of(name: str, *extra: str) -> list[tuple[str, ...]]:
    """What each cell of the package's table is composed from, which takes no composing."""
    table = definition.read(group_file("table", name))
    asked: list[tuple[str, ...]] = []

    def noted(overrides: Sequence[str], seeds: Sequence[int]) -> tuple[None]:
        asked.append(tuple(overrides))
        return (None,)

    grid.cells(table, list(table.rows), list(table.columns), table.seeds[:1], extra, noted)
    return asked


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(run: grid.PlannedRun, train: Sequence[float] = (1.0,), *, greedy: float = 5.0, status: str = "DONE",
             study: str | None = None, code: dict = CODE, llm: dict | None = None, env_steps_per_s: float = 100.0,
             host: str = "elsewhere") -> Path:  # fmt: skip
    """A run directory as `llmrl run` leaves it, with these training returns and this last evaluation."""
    path = run.path if study is None else run.outputs / study / Path(*run.path.parts[-3:])
    path.mkdir(parents=True)
    done = status == "DONE"
    at = run.steps if done else run.steps // 2
    write_json(path / "config.json", {"choices": dict(run.names), "llm": {"model": run.llm}})
    write_json(path / "identity.json", run.identity)
    standing = {"status": status, "env_steps": at, "target_env_steps": run.steps, "host": host}
    write_json(path / "status.json", standing)
    write_json(path / "versions.json", {"starts": [{"code": code, "packages": {}}]})
    row = {"env_steps": at, "policy": "greedy", "return_mean": greedy, "returns": [greedy, greedy]}
    (path / "eval.jsonl").write_text(lines(row))
    episodes = [{"kind": "episode", "env_steps": i, "return": r, "length": 1} for i, r in enumerate(train, start=1)]
    (path / "metrics.jsonl").write_text(lines(*episodes))
    (path / "timing.jsonl").write_text(lines({"env_steps": 1, "env_steps_per_s": env_steps_per_s}))
    if done:
        write_json(path / "result.json", {"env_steps": at, "llm": llm})
    return path
