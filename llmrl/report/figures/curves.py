"""Learning curves: greedy evaluations over training, a panel per environment, a band over runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.intervals import MIN_N
from llmrl.report import stats
from llmrl.report.figures.style import (
    INTERVAL,
    counts_of,
    draw_random,
    envs_of,
    legend,
    name_left,
    panels_for,
    styles_of,
    thousands,
    units,
)
from llmrl.report.store.groups import Group
from llmrl.report.store.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(groups: Sequence[Group]) -> "Figure":
    """Greedy evaluations over training, a panel per environment. Raises ConfigError where no run has an
    evaluation yet."""
    groups = [g for g in groups if any(len(run.evals.steps) for run in g.runs)]
    if not groups:
        raise ConfigError("no run here has an evaluation yet")
    figure, panels = panels_for(envs_of(groups), width=4.6, height=3.3)
    styles = styles_of(groups)
    for env, axes in panels.items():
        for group in (g for g in groups if g.env == env):
            draw_runs(axes, group.runs, styles[group.label], group.label)
        draw_random(axes, groups, env)
        axes.set_title(env, loc="left", fontsize=10)
        axes.set_xlabel(units(run for group in groups if group.env == env for run in group.runs))
        axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
    name_left(panels, "return, greedy evaluation")
    legend(figure, panels, f"mean over runs; band: {INTERVAL}", counts=counts_of(groups))
    return figure


def draw_runs(axes: "Axes", runs: Sequence[RunRecord], style: dict[str, Any], label: str) -> None:
    """One line: the mean over the runs, with a band where there are enough. An evaluation-only baseline is a level,
    what is evaluated once, as the sets after training are, a point."""
    steps, means = together(runs)
    if all(run.only_evaluates for run in runs):  # from edge to edge of the panel
        steps, means = np.array([0, 1]), means[:, [-1, -1]]
        style = style | {"linestyle": "--", "transform": axes.get_yaxis_transform()}
    elif len(steps) == 1:
        style = style | {"linestyle": "none", "marker": "s", "markersize": 5}
    axes.plot(steps, means.mean(axis=0), **style, linewidth=1.8 if len(means) > 1 else 1, label=label)
    if len(means) >= MIN_N:
        ends = [stats.student(column) for column in means.T]
        if len(steps) == 1:
            axes.vlines(steps, *np.array([(e.low, e.high) for e in ends], np.float64).T, color=style["color"])
            return
        band = {key: value for key, value in style.items() if key != "linestyle"} | {"alpha": 0.18, "lw": 0}
        axes.fill_between(steps, *np.array([(e.low, e.high) for e in ends], np.float64).T, **band)


def together(runs: Sequence[RunRecord]) -> tuple[NDArray, NDArray]:
    """(env_steps or updates (t,), mean returns (runs, t)): the evaluations that all runs have made so far. A run
    without any is left out."""
    evals = [run.evals for run in runs if len(run.evals.steps)]
    steps = evals[0].steps
    for other in evals[1:]:
        steps = np.intersect1d(steps, other.steps)
    return steps, np.stack([e.means[np.isin(e.steps, steps)] for e in evals])
