"""What the rest of a grid will cost: by the runs of the same kind that this machine has made; where it has made none,
by throughput.csv, measured on one core, and by what the paper says that a run cost."""

import csv
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from llmrl.report.published import published
from llmrl.report.store.record import RunRecord, dollars
from llmrl.report.tables.grid import (
    DONE_RUN,
    RUNNING_RUN,
    PlannedRun,
    Stage,
    identity_of,
    stage_done,
    stage_standing,
    stages_of,
    standing,
)
from llmrl.runs.files import read_json


@dataclass
class Forecast:
    """What is left (env_steps, updates, …) of runs and of what they share, hours of one process after the other,
    dollars. What no run shows is unknown, not guessed."""

    runs: Sequence[PlannedRun]
    found: Mapping[tuple[int, str], RunRecord]
    records: Sequence[RunRecord]

    def __post_init__(self) -> None:
        self.shipped = self.published = False  # whether throughput.csv, or a paper's own cost, was needed
        self.records = [r for r in self.records if not r.damaged and r.steps]
        self.left = {run: steps for run in self.runs if (steps := self._left(run))}
        self.shared = {stage: stage.steps - stage_done(stage) for stage in stages_of(self.runs)
                       if stage.steps and stage_standing(stage) not in (DONE_RUN, RUNNING_RUN)}  # fmt: skip

    def _left(self, run: PlannedRun) -> int:
        record = self.found.get(run.key)
        if standing(record) in (DONE_RUN, RUNNING_RUN):
            return 0
        return run.steps - (record.steps if record and not record.damaged else 0)

    def text(self) -> str:
        """The forecast in words."""
        if not self.left and not self.shared:
            return "Nothing is left to run."
        own, shared = (Counter[str](), Counter[str]())
        for run, steps in self.left.items():
            own[run.unit] += steps
        for stage, steps in self.shared.items():
            shared[stage.unit] += steps
        more = f", and {_amounts(shared)} of what they share ({len(self.shared)})" if shared else ""
        hours = [rate and rate * steps / 3600 for rate, steps in self._seconds()]
        usd = list(self._dollars())
        like = "from the throughput of runs like these on this machine"
        like += "; where it made none, of one core of a Xeon, docs/speed.md" if self.shipped else ""
        asked = "from runs with the same language model"
        asked += "; where there are none, the paper's own cost of a run, with its model" if self.published else ""
        return (
            f"Left: {_amounts(own)} in {len(self.left)} runs{more}.\n"
            f"Time: {_sum(hours, 'h')} (of one process; {like}).\n"
            f"LLM:  {_sum(usd, 'usd')} ({asked})."
        )

    def _seconds(self) -> Iterator[tuple[float | None, int]]:
        """(seconds of a step, steps) of each run and stage; a search trains as fast as the runs that build on it."""
        for run, steps in self.left.items():
            yield self.seconds_per_step(run), steps
        for stage, steps in self.shared.items():
            run = self._builder_on(stage)
            alike = stage.unit == run.unit == "env_steps" and stage.node["choices"]["agent"] == run.names["agent"]
            yield (self.seconds_per_step(run) if alike else None), steps

    def _dollars(self) -> Iterator[float | None]:
        """Of each run and stage. A run that builds on what an LLM made asks none: the stage has asked for all."""
        for run, steps in self.left.items():
            rate = 0.0 if any(stage.asks for stage in run.stages) else self.usd_per_step(run)
            yield None if rate is None else rate * steps
        for stage in self.shared:
            yield self.usd_of_stage(self._builder_on(stage)) if stage.asks else 0.0

    def _builder_on(self, stage: Stage) -> PlannedRun:
        return next(run for run in self.runs if any(one.path == stage.path for one in run.stages))

    def seconds_per_step(self, run: PlannedRun) -> float | None:
        """Of runs with the same method, agent (all its values) and suite; of the same task where there are such."""
        alike = [r for r in self.records if r.steps_per_s and self._alike(r, run)]
        near = [r for r in alike if r.env == run.names["env"]] or alike
        if near:
            return _mean(1 / r.steps_per_s for r in near if r.steps_per_s)
        rate = shipped_rates().get((run.names["agent"], run.names["env"].split("/")[0], run.unit, run.device))
        self.shipped |= rate is not None
        return 1 / rate if rate else None

    def _alike(self, record: RunRecord, run: PlannedRun) -> bool:
        suite = run.names["env"].split("/")[0]
        same = (record.method, record.agent, record.env.split("/")[0], record.unit) == (
            run.names["method"], run.names["agent"], suite, run.unit)  # fmt: skip
        if not same or any(identity_of(record).get(k) != run.identity.get(k) for k in ("agent", "device")):
            return False
        try:
            return read_json(record.path / "status.json").get("host") == socket.gethostname()
        except (OSError, ValueError):
            return False

    def usd_per_step(self, run: PlannedRun) -> float | None:
        """Of runs with the same model and method's values, on the same task where there are such."""
        if _free(run):
            return 0.0
        if asked := self._asked(run):
            return _mean(r.llm["usd"] / r.steps for r in asked if r.llm)
        cost = published_cost(run.names["method"])
        if cost is None or any(r.llm and r.llm["model"] == run.llm for r in self.records):  # whose price nobody knows
            return None
        self.published = True
        return cost / run.node["budget"][f"paper_{run.unit}"]

    def usd_of_stage(self, run: PlannedRun) -> float | None:
        """What a run builds on; a run's own transcript is that of what it builds on."""
        return 0.0 if _free(run) else _mean(r.llm["usd"] for r in self._asked(run) if r.llm)

    def _asked(self, run: PlannedRun) -> list[RunRecord]:
        asked = [r for r in self.records if r.llm and r.llm["model"] == run.llm and r.method == run.names["method"]
                 and identity_of(r).get("method") == run.identity.get("method")
                 and dollars(r.llm) is not None]  # fmt: skip
        return [r for r in asked if r.env == run.names["env"]] or asked


@cache
def shipped_rates() -> dict[tuple[str, ...], float]:
    """{(agent, suite, unit, device): steps/s} of throughput.csv."""
    with open(Path(__file__).with_name("throughput.csv"), encoding="utf-8", newline="") as file:
        return {tuple(row[key] for key in ("agent", "suite", "unit", "device")): float(row["per_s"])
                for row in csv.DictReader(file)}  # fmt: skip


def published_cost(method: str) -> float | None:
    """What a paper says that a run of the method cost its language model, in US dollars."""
    return _mean(cell.value for cell in published().values()
                 if cell.method == method and cell.unit == "usd" and cell.value is not None)  # fmt: skip


def _free(run: PlannedRun) -> bool:
    """Whether nobody is paid: no LLM, the scripted one, or one whose tokens cost nothing, as on one's own machine."""
    return run.llm in (None, "scripted") or not any(run.node["llm"]["usd_per_million_tokens"] or [1])


def _sum(values: Iterable[float | None], unit: str) -> str:
    """Their sum, and how many are not known; never 0 for the unknown."""
    values = list(values)
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    unknown = len(values) - len(known)
    if unknown and not any(known):
        return f"unknown for {unknown} of {len(values)} runs and stages, 0.00 {unit} for the others"
    total = sum(known)
    text = f"{total:,.2f} {unit}" if total == 0 or total >= 0.01 else f"{total:.2g} {unit}"
    return text + (f" and unknown for {unknown} of {len(values)} runs and stages" if unknown else "")


def _amounts(amounts: Mapping[str, int]) -> str:
    return " and ".join(f"{n:,} {unit}" for unit, n in sorted(amounts.items())) or "nothing"


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None
