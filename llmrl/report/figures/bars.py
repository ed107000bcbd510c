"""Bars: a bar per setting and a dot per finished run, a panel per environment."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.report import stats
from llmrl.report.figures.style import (
    INTERVAL,
    SCORES,
    counts_of,
    draw_random,
    envs_of,
    legend,
    name_left,
    panels_for,
    styles_of,
)
from llmrl.report.store.groups import Group
from llmrl.report.store.record import Kind, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(groups: Sequence[Group], kind: Kind = "last") -> "Figure":
    """One bar per setting and a dot per finished run, a panel per environment. Raises ConfigError where no run is
    finished."""
    groups, scores = scored(groups, kind)
    styles = styles_of(groups)
    figure, panels = panels_for(envs_of(groups), width=3.4, height=3.2)
    for env, axes in panels.items():
        here = [g for g in groups if g.env == env]
        for x, group in enumerate(here):
            runs = scores[group.env, group.name]
            estimate = stats.student(runs)
            axes.bar(x, estimate.value, 0.7, color=styles[group.label]["color"], alpha=0.55, label=group.label)
            if estimate.low is not None and estimate.high is not None:
                error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
                axes.errorbar(x - 0.2, estimate.value, error, color="black", linewidth=1.4, capsize=3)
            across = x + np.linspace(-0.05, 0.3, len(runs)) if len(runs) > 1 else [x]
            axes.plot(across, runs, "o", color="black", markersize=3.5, markerfacecolor="white", zorder=3)
        draw_random(axes, groups, env)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks([])
        middle, half = (len(here) - 1) / 2, max(len(here), 3) / 2 + 0.1
        axes.set_xlim(middle - half, middle + half)
        axes.set_title(env, loc="left", fontsize=10)
    name_left(panels, f"return, {SCORES[kind]}")
    title = f"bar: mean over runs; line: {INTERVAL}; circle: one run"
    legend(figure, panels, title, counts=counts_of(groups, finished=True))
    return figure


def scored(groups: Sequence[Group], kind: Kind) -> tuple[list[Group], dict[tuple[str, str], NDArray]]:
    """The groups with finished runs that have such a score, and {(env, name): scores of these runs}."""
    scores = {(g.env, g.name): [score(run, kind) for run in g.finished] for g in groups}
    there = {key: np.array([s for s in values if s is not None]) for key, values in scores.items()}
    there = {key: values for key, values in there.items() if len(values)}
    if not there:
        raise ConfigError(f"no finished run here has a {SCORES[kind]}; `llmrl status` shows the state of each run")
    return [g for g in groups if (g.env, g.name) in there], there
