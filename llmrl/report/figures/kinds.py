"""The kinds of figures that `llmrl plot` and the page draw: those of all runs, then those of the papers."""

from functools import partial

from llmrl.contracts.report import FigureKind
from llmrl.papers import offered, reports
from llmrl.report.figures.bars import bars
from llmrl.report.figures.curves import curves
from llmrl.report.figures.profile import profile
from llmrl.report.store.record import Kind


def kinds(score: Kind = "last") -> dict[str, FigureKind]:
    """By name. `score`: what bars and profiles show of a run."""
    ours = {
        "curves": FigureKind(curves, "Learning curves: greedy evaluations over training."),
        "profile": FigureKind(
            partial(profile, kind=score), "Performance profile: which fraction of runs is above a normalised score."
        ),
        "bars": FigureKind(partial(bars, kind=score), "Last greedy evaluation of the finished runs."),
    }
    return offered(ours, {paper: report.figures for paper, report in reports().found.items()})
