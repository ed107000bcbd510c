"""The page's notices, its summary of settings and its table of runs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from llmrl.report import stats
from llmrl.report.page.html import Cell, each_run, link, named, number, table, whole
from llmrl.report.store.groups import SCRIPTED, Group, mixed
from llmrl.report.store.record import Kind, RunRecord, dollars, score
from llmrl.report.tables.digits import decimals
from llmrl.runs.identity import DONE

SCORES: tuple[Kind, ...] = ("last", "best", "train_last_100", "train_last_tenth")  # of each run


def notices(records: Sequence[RunRecord], groups: Sequence[Group]) -> list[str]:
    """What to know before reading a number."""
    notices = []
    if names := sorted({g.name for g in groups if g.scripted}):
        few = ", ".join(names) if len(names) < 4 else f"{len(names)} settings, marked in each table"
        notices.append(
            f"Runs marked “{SCRIPTED}” asked no language model: a rule answered. Their numbers say nothing about an "
            f"LLM ({few})."
        )
    counted = {run.path for group in groups for run in group.runs}
    if twice := [r for r in records if not r.damaged and r.path not in counted]:
        notices.append(f"{len(twice)} runs were made more than once, in other studies; each counts once.")
    for group in groups:
        for what, them in mixed(group.runs).items():
            notices.append(f"{group.name} on {group.env} mixes runs of different {what}: {', '.join(them)}.")
    notices += [f"Left out, damaged: {damage}" for record in records for damage in record.damage]
    return notices


def summary(groups: Sequence[Group]) -> str:
    """A row per setting."""
    caption = (
        "Finished runs of each setting. Last and best: greedy evaluation, mean over runs; best picks each run's best "
        "evaluation and is therefore too high. Training: mean return of the last 100 training episodes, exploring; "
        "last tenth: of those that ended in the last tenth of training. "
        "Interval: Student's t, 95 %, of the last evaluation's mean over runs; fewer than 3 have none."
    )
    heads = ("method and agent", "env", "runs", "last", "interval", "best", "training", "last tenth", "random policy",
             "env_steps", "LLM calls", "USD")  # fmt: skip
    digits = decimals_of(groups)
    rows = [_summary_row(group, digits[group.env]) for group in groups]
    return table("summary-table", caption, heads, rows, "|".join(heads[2:]))


def decimals_of(groups: Sequence[Group]) -> dict[str, int]:
    """By environment: all its returns have as many decimals."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for group, run in each_run(groups):
        scores[group.env] += [value for kind in SCORES if (value := score(run, kind)) is not None]
    return {group.env: decimals(scores[group.env]) for group in groups}


def _summary_row(group: Group, digits: int) -> list[Cell]:
    done, returned = group.finished, partial(number, digits=digits)

    def mean(values: Iterable[float | None]) -> float | None:
        there = [v for v in values if v is not None]
        return sum(there) / len(there) if there else None

    last = [s for run in done if (s := score(run, "last")) is not None]
    interval, estimate = Cell(), stats.student(last) if last else None
    if estimate and estimate.low is not None:
        interval = Cell(f"{estimate.low:,.{digits}f} to {estimate.high:,.{digits}f}", estimate.low)
    runs = f"{len(done)}" if len(done) == len(group.runs) else f"{len(done)} of {len(group.runs)}"
    asked = [run.llm for run in group.runs if run.llm]
    return [
        named(group), Cell(group.env), Cell(runs, len(done)), returned(mean(last)), interval,
        returned(mean(score(run, "best") for run in done)),
        *(returned(mean(score(run, kind) for run in done)) for kind in ("train_last_100", "train_last_tenth")),
        returned(group.random),
        whole(mean(run.steps for run in done), done[0].unit if done else "env_steps"),
        whole(sum(u["calls"] for u in asked) if asked else None),
        dollars_cell([dollars(u) for u in asked]),
    ]  # fmt: skip


def dollars_cell(known: Sequence[float | None]) -> Cell:
    """Their sum; "unknown" where a price is, empty where no LLM was asked."""
    if not known:
        return Cell()
    return Cell("unknown") if None in known else number(sum(usd for usd in known if usd is not None), 4)


def runs(groups: Sequence[Group], at: Path) -> str:
    """A row per run."""
    heads = ("method and agent", "env", "seed", "study", "status", "env_steps", "last", "best", "training",
             "last tenth", "env_steps/s", "code", "directory")  # fmt: skip
    digits = decimals_of(groups)
    rows = [[
        named(group), Cell(group.env), whole(run.seed), Cell(run.study),
        Cell(run.status + (f": {run.reason.splitlines()[0]}" if run.reason and run.status != DONE else "")),
        whole(run.steps, run.unit), *(number(score(run, kind), digits[group.env]) for kind in SCORES),
        whole(run.steps_per_s, run.unit), Cell(", ".join(run.codes)), Cell(html=link(run.path, at, run.path.name)),
    ] for group, run in each_run(groups)]  # fmt: skip
    caption = "All runs. An unfinished run shows its numbers so far; it counts in no mean of the summary."
    return table("runs-table", caption, heads, rows, "seed|env_steps|last|best|training|last tenth|env_steps/s")
