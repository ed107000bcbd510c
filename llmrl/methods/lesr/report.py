"""What LESR adds to console, figures and page: its searches, and the Lipschitz constants of the chosen programs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrl.checks import ConfigError
from llmrl.contracts.report import FigureKind, PaperReport, Program, Section
from llmrl.methods.lesr.program import FUNCTIONS
from llmrl.methods.search.verdicts import outcome, programs, searches, verdicts
from llmrl.report.figures.style import COLOURS, GREY, legend, panels_for, shortened, wrapped
from llmrl.report.page.html import Cell, number, table, whole
from llmrl.report.store.groups import SCRIPTED, Group
from llmrl.report.store.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12  # searches in a figure
MAX_NAMED = 45  # dimensions of a state whose bars have their names beside them
ROUGHNESS = {  # method.search.lipschitz -> what the constants are of
    "episode": "the reward", "cumulative": "the reward", "discounted_return": "the discounted return",
    "spectral_norm": "the learnt value",
}  # fmt: skip
SAMPLE = "lesr.sample"


@dataclass(frozen=True)
class Tried:
    """One program of a search."""

    index: str  # iteration/sample/attempt
    outcome: str  # rejected, failed, trained or chosen
    reason: str  # of the former two
    features: int | None  # dimensions that it adds
    score: float | None  # mean of its last evaluations
    lipschitz: tuple[float, ...] = ()  # of its training: a constant per dimension, source first, then added ones
    ignored: tuple[int, ...] = ()  # added dimensions that its intrinsic reward does not depend on


def tried(record: RunRecord) -> list[Tried]:
    """All programs that a run's search asked for, in order; none where the run has no search. Raises ReplayError where
    llm.jsonl is corrupt."""
    if "lesr" not in (result := record.result or {}):
        return []
    found = []
    for index, events in verdicts(record, SAMPLE):
        accepted, trained = events.get("accepted", {}), events.get("trained", {})
        constants, ignored = tuple(trained.get("lipschitz", ())), tuple(accepted.get("ignored", ()))
        state, reason = outcome(index, events, result["lesr"]["chosen"])
        found.append(Tried(index, state, reason, accepted.get("features"), trained.get("score"), constants, ignored))
    return found


def lipschitz(groups: Sequence[Group]) -> "Figure":
    """Lipschitz constants per dimension, of the source state beside the added features, in the training of the program
    that a search chose; a panel per search (the first 12). ConfigError where no search has recorded any."""
    found = []
    for place, (group, run) in searches(groups, "lesr").items():
        programs = [one for one in tried(run) if one.lipschitz]
        if chosen := next((one for one in programs if one.outcome == "chosen"), None):
            mark = f" ({SCRIPTED})" if group.scripted else ""
            program = f"program\u00a0{chosen.index},\u00a0score\u00a0{chosen.score:,.1f}"  # stays in one line
            title = f"{group.env} · search {Path(place).name}{mark} · {program}"
            found.append((title, run, chosen, programs))
    if not found:
        raise ConfigError("no search of these runs has recorded Lipschitz constants; plot finished runs of method=lesr")
    here = {f"{i}": one for i, one in enumerate(found[:MAX_PANELS])}
    longest = max(len(chosen.lipschitz) for *_, chosen, _ in here.values())
    figure, panels = panels_for(list(here), width=6.4, height=1.2 + 0.17 * min(longest, MAX_NAMED), columns=2)
    for name, axes in panels.items():
        title, run, chosen, programs = here[name]
        _draw_constants(axes, run, chosen, programs)
        axes.set_title(wrapped(title, 72), loc="left", fontsize=8)
    explained = ("bar: the chosen program's training; circle: another program's, of the same source dimension; "
                 "programs are named iteration/sample/attempt")  # fmt: skip
    legend(figure, panels, explained, counts={"source dimension": ""})  # which stands first
    if len(found) > MAX_PANELS:
        figure.supxlabel(f"the first {MAX_PANELS} of {len(found)} searches", fontsize=9)
    return figure


def _draw_constants(axes: "Axes", run: RunRecord, chosen: Tried, programs: Sequence[Tried]) -> None:
    """One search's panel: a bar per dimension from the top down, source dimensions first."""
    values, n = np.array(chosen.lipschitz), len(chosen.lipschitz)
    d = n - (chosen.features or 0)
    kinds = {"source dimension": (range(d), COLOURS[0], None),
             "added feature": ([i for i in range(d, n) if i not in chosen.ignored], COLOURS[1], None),
             "added feature that the intrinsic reward ignores": (chosen.ignored, COLOURS[1], "////")}  # fmt: skip
    for label, (at, colour, hatch) in kinds.items():
        if len(at):
            axes.barh(list(at), values[list(at)], 0.7, color=colour, alpha=0.55, hatch=hatch, label=label)
    for one in programs:
        if one is not chosen:
            axes.plot(one.lipschitz[:d], range(d), "o", color=GREY, markersize=3, markerfacecolor="white", lw=0)
    sheet = [re.split(r"[,;.]| \(", line)[0] for line in run.config["env"]["task"]["observation"]]
    if n <= MAX_NAMED:
        names = [f"{shortened(name, 44)}  {i}" for i, name in enumerate(sheet[:d])]
        axes.set_yticks(range(n), [*names, *(f"added  {i}" for i in range(d, n))], fontsize=7)
    axes.set_ylim(n - 0.4, -0.6)
    of = ROUGHNESS[run.config["method"]["search"]["lipschitz"]]
    axes.set_xlabel(f"Lipschitz constant of {of} (lower: smoother)", fontsize=8)


class LESRReport(PaperReport):
    """What a search tried, rejected and chose."""

    figures = {
        "lipschitz": FigureKind(
            lipschitz,
            "Lipschitz constants of the state's dimensions under each search's chosen program, source and added.",
        )
    }

    def summary(self, result: Mapping[str, Any]) -> list[tuple[str, str]]:
        if (found := result.get("lesr")) is None:
            return []
        failed = sum(bool(candidate["failed"]) for candidate in found["candidates"])
        empty = f", no program for {found['empty']} samples" if found.get("empty") else ""
        where = f", {found['search_env_steps']:,} env_steps in {found['search']}" if "search" in found else ""
        text = (
            f"{len(found['candidates'])} programs trained ({failed} failed{empty}), chosen: {found['chosen']}, "
            f"{found['features']} features{where}"
        )
        return [("search", text)]

    def sections(self, groups: Sequence[Group]) -> list[Section]:
        shared = searches(groups, "lesr")
        if not shared:
            return []
        rows = [
            [Cell(Path(place).name), Cell(group.env), Cell(one.index), Cell(one.outcome), whole(one.features),
             number(one.score, 2), Cell(one.reason)]
            for place, (group, run) in shared.items() for one in tried(run)
        ]  # fmt: skip
        caption = (
            "The programs that each search asked for, by iteration/sample/attempt. A trained one's score is the mean "
            "of its last evaluations, on cases that final scores do not use. The transcripts hold prompts and programs."
        )
        heads = ("search", "env", "program", "outcome", "features", "score", "reason")
        return [Section("searches", "Searches", table("search-table", caption, heads, rows, "features|score"))]

    def programs(self, record: RunRecord) -> list[Program]:
        found = (record.result or {}).get("lesr", {}).get("chosen", "")
        return list(programs(
            record, SAMPLE, FUNCTIONS, lambda index: ("", int(index.split("/")[0])), chosen=found,
            training=lambda index: f"candidates/{'-'.join(index.split('/')[:2])}",
        ))  # fmt: skip


REPORT = LESRReport
