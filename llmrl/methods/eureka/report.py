"""What Eureka adds to console, tables, figures and page: its searches, what policies are judged by, and whether the
generated reward goes with the human one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrl.checks import ConfigError
from llmrl.contracts.report import FigureKind, Metric, PaperReport, Program, Section, times
from llmrl.methods.eureka.measure import UNITS, fitness
from llmrl.methods.eureka.program import FUNCTION
from llmrl.methods.search.verdicts import outcome, programs, searches, verdicts
from llmrl.report.figures.style import COLOURS, GREY, legend, panels_for
from llmrl.report.page.html import Cell, number, table
from llmrl.report.store.groups import SCRIPTED, Group
from llmrl.report.store.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE = "eureka.sample"


@dataclass(frozen=True)
class Tried:
    """One program of a search."""

    index: str  # restart/iteration/sample
    outcome: str  # rejected, failed, trained or chosen
    reason: str  # of the former two
    components: str
    score: float | None  # its best evaluation
    correlation: float | None  # Pearson's, of its reward with the human one over its training


def best(record: RunRecord) -> float | None:
    """The best evaluation of a run, by what policies are judged by (the authors' code: the maximum over training)."""
    return max(fitness(record.path), default=None)


def tried(record: RunRecord) -> list[Tried]:
    """All programs that a run's search asked for, in order. Raises ReplayError where llm.jsonl is corrupt."""
    found = []
    for index, events in verdicts(record, SAMPLE):
        trained = events.get("trained", {})
        state, reason = outcome(index, events, (record.result or {})["eureka"]["chosen"])
        components = ", ".join(events.get("accepted", {}).get("components", ()))
        found.append(Tried(index, state, reason, components, trained.get("score"), trained.get("correlation")))
    return found


def correlation(groups: Sequence[Group]) -> "Figure":
    """How well each program's reward goes with the human one (Pearson's r over its training) against what its policy
    came to, a panel for each task. ConfigError where no search has trained three programs."""
    tasks: dict[str, list[tuple[float, float, Tried]]] = {}  # (r, score, program) of those that were trained with
    for group, run in searches(groups, "eureka").values():
        unit = UNITS[run.result["eureka"]["measure"]] if run.result else ""
        label = f"{group.env}{f' ({SCRIPTED})' * group.scripted}, {unit}"
        known = [(t.correlation, t.score, t) for t in tried(run) if t.correlation is not None and t.score is not None]
        tasks.setdefault(label, []).extend(known)
    tasks = {label: found for label, found in tasks.items() if len(found) >= 3}
    if not tasks:
        raise ConfigError("no search of these runs has trained three rewards to the end; plot runs of method=eureka")
    figure, panels = panels_for(list(tasks), width=4.6, height=3.6, columns=2)
    for label, axes in panels.items():
        title, _, unit = label.rpartition(", ")
        x, y = (np.array([point[i] for point in tasks[label]]) for i in (0, 1))
        colours = [COLOURS[1] if one.outcome == "chosen" else COLOURS[0] for *_, one in tasks[label]]
        axes.scatter(x, y, c=colours, s=28, zorder=3)
        for r, score, one in tasks[label]:
            axes.annotate(one.index, (r, score), xytext=(4, 3), textcoords="offset points", fontsize=7)
        if np.ptp(x) and np.ptp(y):
            title += f"; over the {len(x)} programs r = {np.corrcoef(x, y)[0, 1]:.2f}"
        axes.set_title(title, loc="left", fontsize=8)
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlim(-1.15, 1.15)
        axes.set_xlabel("Pearson's r of generated and human reward over a training", fontsize=8)
        axes.set_ylabel(f"best evaluation: {unit}", fontsize=8)
    first = next(iter(panels.values()))
    for label, colour in (("a program", COLOURS[0]), ("the chosen program", COLOURS[1])):
        first.scatter([], [], color=colour, s=28, label=label)
    legend(figure, panels, "programs are named restart/iteration/sample", counts={"a program": ""})
    return figure


class EurekaReport(PaperReport):
    """What a search tried, rejected and chose."""

    metrics: Mapping[str, Metric] = {
        "eureka_fitness": Metric("best evaluation: success rate, or metres forward in an episode", best)
    }
    figures = {
        "eureka_correlation": FigureKind(
            correlation,
            "Generated and human reward: how well each program's reward goes with the human one over its training, "
            "against what its policy came to; the chosen one in the other colour.",
        )
    }

    def summary(self, result: Mapping[str, Any]) -> list[tuple[str, str]]:
        if (found := result.get("eureka")) is None:
            return []
        failed = sum(bool(candidate["failed"]) for candidate in found["candidates"])
        rejected = ", ".join(times(found["rejected"])) or "none"
        chosen = next(c for c in found["candidates"] if c["index"] == found["chosen"])
        where = f", {found['search_env_steps']:,} env_steps in {found['search']}" if "search" in found else ""
        unit = UNITS[found["measure"]]
        lines = [(
            "search",
            f"{len(found['candidates'])} rewards trained with ({failed} failed), rejected: {rejected}; chosen: "
            f"{found['chosen']} ({', '.join(chosen['components'])}), {unit} {found['score']:,.2f}{where}",
        )]  # fmt: skip
        return [("best evaluation", f"{unit} {found['best']:,.2f}"), *lines] if "best" in found else lines

    def sections(self, groups: Sequence[Group]) -> list[Section]:
        if not (found := searches(groups, "eureka")):
            return []
        rows = [
            [Cell(Path(place).name), Cell(group.env), Cell(one.index), Cell(one.outcome), Cell(one.components),
             number(one.score, 2), number(one.correlation, 2), Cell(one.reason)]
            for place, (group, run) in found.items() for one in tried(run)
        ]  # fmt: skip
        caption = (
            "The rewards that each search asked for, by restart/iteration/sample. A score is the best evaluation of "
            "the training with it, on cases that final scores do not use; r is its correlation with the human reward. "
            "The transcripts hold prompts and programs."
        )
        heads = ("search", "env", "reward", "outcome", "components", "score", "r", "reason")
        text = table("eureka-table", caption, heads, rows, "score|r")
        return [Section("eureka", "Eureka's searches", text)]

    def programs(self, record: RunRecord) -> list[Program]:
        found = (record.result or {}).get("eureka", {}).get("chosen", "")

        def series(index: str) -> tuple[str, int]:
            restart, iteration, _ = index.split("/")
            return f"restart {restart}", int(iteration)

        return list(programs(record, SAMPLE, [FUNCTION], series, chosen=found,
                             training=lambda index: f"candidates/{index.replace('/', '-')}"))  # fmt: skip


REPORT = EurekaReport
