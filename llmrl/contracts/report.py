"""The PaperReport contract: what a paper adds to console, tables, figures and pages.

A paper is a folder of llmrl/methods, here or below LLMRL_PATH. Its report.py exports a class as `REPORT`; without one
there is what all runs have. A report meets the runs of every paper and recognises its own, as by the key of its method
in a run's result. It must not import torch: the commands that use it are fast. llmrl/report has helpers for figures
(figures/style.py) and html (page/html.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from llmrl.report.store.groups import Group
    from llmrl.report.store.record import RunRecord


@dataclass(frozen=True)
class Metric:
    """A number of a run, which a table names as its `metric`."""

    unit: str  # "share of imagined rollouts that reach their goal"
    number: Callable[["RunRecord"], float | None]  # of a finished run; None where it has none
    one_scale: bool = False  # whether differences in several rows (tasks) can be averaged as they are


@dataclass(frozen=True)
class FigureKind:
    """A figure of groups of runs, which `llmrl plot --kind` names; the page shows it above its caption."""

    draw: Callable[[Sequence["Group"]], "Figure"]  # raises ConfigError where these runs have nothing to draw
    caption: str


class Section(NamedTuple):
    """A part of the page. `html` is trusted: whatever comes from a run has to be escaped (page/html.py does)."""

    name: str  # its anchor
    heading: str
    html: str


class Column(NamedTuple):
    """Of `Details`: cells are texts or numbers; with `bars`, lists of numbers, each drawn as a bar of that name."""

    head: str
    bars: tuple[str, ...] = ()
    signed: bool = False  # bars grow from the middle, relative to the cell's largest; else from 0 to 1


Value = str | float | Sequence[float]


@dataclass(frozen=True)
class Details:
    """A table that unfolds beside a run's transcript. All of it is displayed as text."""

    title: str  # "Episode by episode: 12 answers"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Program:
    """A program that a search asked its language model for."""

    purpose: str  # of the call that brought it, with its index
    index: str
    series: str  # a restart, or one of several functions, within which iterations follow each other; "" if there is one
    iteration: int
    outcome: str  # rejected, failed, trained, chosen; accepted before or without a training; "" before any verdict
    reason: str  # of rejected and failed
    score: float | None  # higher is better
    code: str  # the answer as a whole where it holds no program
    training: str = ""  # its training's directory, below the search's


def times(counts: Mapping[str, int]) -> list[str]:
    """{"no_json": 3} -> ["no_json 3x"]"""
    return [f"{name} {n}x" for name, n in counts.items()]


class PaperReport:
    """Everything has a default: nothing to add."""

    metrics: Mapping[str, Metric] = {}
    figures: Mapping[str, FigureKind] = {}

    def summary(self, result: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """Lines (name, text) of a finished run's summary in the console, from its result.json."""
        return ()

    def failures(self, result: Mapping[str, Any]) -> Sequence[str]:
        """What went wrong beside attempts without an answer and unusable answers, which are counted for every run: "2
        of 9 refreshes without a usable answer"."""
        return ()

    def sections(self, groups: Sequence["Group"]) -> Sequence[Section]:
        """Parts of the page about these runs."""
        return ()

    def details(self, record: "RunRecord") -> Details | None:
        """What unfolds beside a run's transcript."""
        return None

    def programs(self, record: "RunRecord") -> Sequence[Program]:
        """The programs that a run's search has asked for so far, in order; also of an unfinished one."""
        return ()
