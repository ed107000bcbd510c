"""How figures look, and what all of them share: colours, panels, the legend, names of axes, files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrl.intervals import MIN_N
from llmrl.report.store.groups import Group, counted
from llmrl.report.store.record import Kind, RunRecord
from llmrl.runs.files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: distinct for colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
GREY = "#777777"
SCORES: dict[Kind, str] = {
    "last": "last greedy evaluation",
    "best": "best greedy evaluation",
    "mean_last_k": "mean of the last 5 greedy evaluations",
    "train_last_100": "mean of the last 100 training episodes",
    "train_last_tenth": "mean of the training episodes of its last tenth",
}
INTERVAL = f"95 % interval (Student's t; none below {MIN_N} runs)"


def save(figure: "Figure", out: Path, name: str) -> list[Path]:
    """Writes <name>.png and <name>.pdf into `out`, which is made."""
    paths = [out / f"{name}.{kind}" for kind in ("png", "pdf")]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, dpi=150)
    return paths


def panels_for(
    names: Sequence[str], width: float, height: float, columns: int = 3
) -> tuple["Figure", dict[str, "Axes"]]:
    """A figure with a panel for each name; sizes in inches, of one panel."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)  # inches; an edge without labels would touch the border
    figure = Figure(figsize=(max(width * columns, 5.5), height * rows + 0.9), layout=layout)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, dict(zip(names, grid))


def legend(figure: "Figure", panels: Mapping[str, "Axes"], title: str, counts: Mapping[str, str]) -> None:
    """One legend for all panels, below them; its title explains line and band. Labels stand in the order of `counts`,
    then those that have none."""
    handles: dict[str, Any] = {}
    for axes in panels.values():
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    handles = {k: handles[k] for k in sorted(handles, key=lambda k: (k not in counts, [*counts, k].index(k), k))}
    labels = [wrapped(label + counts.get(label, ""), 60) for label in handles]
    wide = figure.get_figwidth() > 8 and max(map(len, labels)) < 60
    inches = 0.2 + sum(0.19 + 0.135 * label.count("\n") for label in labels) / (2 if wide else 1)
    figure.set_figheight(figure.get_figheight() + max(0, inches - 0.6))  # the panels keep their room
    figure.legend(list(handles.values()), labels, loc="outside lower left", ncols=2 if wide else 1, fontsize=8,
                  frameon=False, title=title, title_fontsize=8, alignment="left")  # fmt: skip


def same_range(panels: Iterable["Axes"]) -> None:
    """All of them show the same range of y, so that the eye can compare."""
    panels = list(panels)
    low, high = zip(*(axes.get_ylim() for axes in panels))
    for axes in panels:
        axes.set_ylim(min(low), max(high))


def name_left(panels: Mapping[str, "Axes"], label: str) -> None:
    """Names the y axis of the panels in the first column."""
    for axes in panels.values():
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(label, fontsize=9)


def draw_random(axes: "Axes", groups: Sequence[Group], env: str) -> None:
    """The random policy's mean return, as a level."""
    random = next((g.random for g in groups if g.env == env and g.random is not None), None)
    if random is not None:
        axes.axhline(random, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label="random policy", zorder=1)


def envs_of(groups: Sequence[Group]) -> list[str]:
    """Their environments, each once."""
    return list(dict.fromkeys(g.env for g in groups))


def styles_for(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash pattern for each label; the same in all panels."""
    n = len(COLOURS)
    return {x: {"color": COLOURS[i % n], "linestyle": LINES[i // n % len(LINES)]} for i, x in enumerate(labels)}


def styles_of(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """A style for each label of these groups."""
    return styles_for(sorted({g.label for g in groups}))


def counts_of(groups: Sequence[Group], *, finished: bool = False) -> dict[str, str]:
    """What `counted` says of each label."""
    texts = {}
    for label in sorted({g.label for g in groups}):
        mine = [g for g in groups if g.label == label]
        sizes = [len(g.finished) if finished else sum(len(r.evals.steps) > 0 for r in g.runs) for g in mine]
        unfinished = 0 if finished else sum(len(g.runs) - len(g.finished) for g in mine)
        texts[label] = counted(sizes, unfinished, [g.finished if finished else g.runs for g in mine])
    return texts


def many_colours(n: int) -> list[Any]:
    """n colours that differ in lightness as well; from 8 on, a sequence that stays in order without colour."""
    from matplotlib import colormaps

    return list(COLOURS[:n]) if n <= len(COLOURS) else list(colormaps["viridis"](np.linspace(0, 1, n)))


def thousands(x: float) -> str:
    """1500 -> 1.5k"""
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k" if x >= 1e3 else f"{x:g}"


def shortened(text: str, length: int) -> str:
    """The text, cut to at most so many characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most so many characters."""
    from textwrap import wrap

    return "\n".join(wrap(text, width)) or text


def units(runs: Iterable[RunRecord]) -> str:
    """The unit of these runs' lengths: env_steps, updates (offline training), or both."""
    return " or ".join(sorted({run.unit for run in runs}))
