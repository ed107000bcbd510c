"""Trains the candidates of a search, each as a run of its own, several at a time."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.config import Config as Run
from llmrl.config import wrapped
from llmrl.methods.plain import vanilla
from llmrl.runs.children import CANDIDATES, outcome_of, prepare, result_of, run_all
from llmrl.runs.files import read_jsonl, write_text
from llmrl.runs.identity import DONE

if TYPE_CHECKING:
    from llmrl.context import RunContext


def program_file(directory: Path, name: str, code: str) -> Path:
    """Writes a candidate's program into the search's directory."""
    path = directory / "programs" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    write_text(path, code)
    return path


def place(search: Run, directory: Path, name: str, wrapper: Any, seed: int) -> Path:
    """Prepares the run directory of one training: plain training in `wrapper`, on its own seed."""
    run = wrapped(search, wrapper)
    run = dataclasses.replace(
        run, method=vanilla.Config(), seed=seed, choices=run.choices | {"method": "vanilla"},
        log=dataclasses.replace(run.log, progress=False, wandb="off"),
    )  # fmt: skip
    prepare(directory / CANDIDATES / name, run)
    return directory / CANDIDATES / name


def train(
    ctx: "RunContext",
    purpose: str,
    places: Mapping[str, Sequence[Path]],
    facts: Callable[[str, Sequence[Path]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Trains the candidates {index of the LLM call: run directories} and returns the `facts` of each.

    The facts are recorded beside the call, so that a resumed search has them. A training may fail: that is a fact too.
    """
    events = ctx.llm.transcript.events
    todo = [index for index in places if (purpose, index, "trained") not in events]
    run_all([one for index in todo for one in places[index]], ctx.cfg.compute.workers, ctx.stop)
    for index in todo:
        ctx.llm.event(purpose, index, "trained", **facts(index, places[index]))
    return {index: events[purpose, index, "trained"] for index in places}


def failure(places: Iterable[Path]) -> str:
    """Why one of the trainings has no result; "" if all have one."""
    for one in places:
        outcome = outcome_of(one)
        if outcome is None or outcome.status != DONE:
            return f"failed: {outcome.reason if outcome else 'its process was killed'}"[:300]
    return ""


def totals(places: Sequence[Path]) -> dict[str, Any]:
    """Sums over the finished trainings, for the search's result."""
    done = [result_of(one) for one in places if (outcome := outcome_of(one)) and outcome.status == DONE]
    rows = [row for one in places for row in read_jsonl(one / "eval.jsonl")]
    total = {key: sum(result[key] for result in done) for key in ("env_steps", "updates", "episodes")}
    eval_env_steps = sum(sum(row["lengths"]) for row in rows)
    return total | {"env_steps_total": total["env_steps"], "eval_env_steps": eval_env_steps}


def say(run: Run, text: str) -> None:
    """Prints a line of progress."""
    if run.log.progress:
        print(f"  search {text}", file=sys.stderr, flush=True)
