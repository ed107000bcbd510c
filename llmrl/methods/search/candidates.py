"""The trainings of a search: each candidate is a run of its own, side by side with the others."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.config import Config as Run
from llmrl.config import wrapped
from llmrl.methods.plain import vanilla
from llmrl.runs.children import outcome_of, prepare, result_of, run_all
from llmrl.runs.files import read_jsonl, write_text
from llmrl.runs.identity import DONE

if TYPE_CHECKING:
    from llmrl.context import RunContext


def program_file(directory: Path, name: str, code: str) -> Path:
    """Keeps a candidate's program in the search's directory."""
    path = directory / "programs" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    write_text(path, code)
    return path


def place(search: Run, directory: Path, name: str, wrapper: Any, seed: int) -> Path:
    """The directory of a training, with what it is to run: plainly, in `wrapper`, on its own seed."""
    run = wrapped(search, wrapper)
    run = dataclasses.replace(
        run, method=vanilla.Config(), seed=seed, choices=run.choices | {"method": "vanilla"},
        log=dataclasses.replace(run.log, progress=False, wandb="off"),
    )  # fmt: skip
    prepare(directory / "candidates" / name, run)
    return directory / "candidates" / name


def train(
    ctx: "RunContext",
    purpose: str,
    places: Mapping[str, Sequence[Path]],
    facts: Callable[[str, Sequence[Path]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Trains the candidates {index of the call: its directories} and returns what each came to, as `facts` tells it:
    recorded beside the call, so that a search that goes on knows it. One that fails is a fact, not the end."""
    events = ctx.llm.transcript.events
    todo = [index for index in places if (purpose, index, "trained") not in events]
    run_all([one for index in todo for one in places[index]], ctx.cfg.compute.workers, ctx.stop)
    for index in todo:
        ctx.llm.event(purpose, index, "trained", **facts(index, places[index]))
    return {index: events[purpose, index, "trained"] for index in places}


def failure(places: Iterable[Path]) -> str:
    """Why a training has no result; "" where all have one."""
    for one in places:
        outcome = outcome_of(one)
        if outcome is None or outcome.status != DONE:
            return f"failed: {outcome.reason if outcome else 'its process was killed'}"[:300]
    return ""


def totals(places: Sequence[Path]) -> dict[str, Any]:
    """What the trainings that came to their end made, for the search's result."""
    done = [result_of(one) for one in places if (outcome := outcome_of(one)) and outcome.status == DONE]
    rows = [row for one in places for row in read_jsonl(one / "eval.jsonl")]
    total = {key: sum(result[key] for result in done) for key in ("env_steps", "updates", "episodes")}
    eval_env_steps = sum(sum(row["lengths"]) for row in rows)
    return total | {"env_steps_total": total["env_steps"], "eval_env_steps": eval_env_steps}


def say(run: Run, text: str) -> None:
    """A line for whoever watches the search."""
    if run.log.progress:
        print(f"  search {text}", file=sys.stderr, flush=True)
