"""Performance profiles: the fraction of runs above each normalised score, over the tasks that all settings share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.intervals import MIN_N
from llmrl.report import stats
from llmrl.report.figures.bars import scored
from llmrl.report.figures.style import SCORES, counts_of, envs_of, legend, panels_for, styles_of
from llmrl.report.published import atari_reference
from llmrl.report.store.groups import Group
from llmrl.report.store.record import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPETITIONS, SEED = 2_000, 0  # of the bootstrap; a line on paper is wider than what more would change


def profile(groups: Sequence[Group], kind: Kind = "last") -> "Figure":
    """The fraction of runs above each normalised score, over the tasks that all settings share. Human-normalised where
    all tasks are Atari games with a known human score, else 0 is the random policy and 1 the best run here. Raises
    ConfigError where no task is shared or none can be normalised."""
    groups, scores = scored(groups, kind)
    methods: dict[str, dict[str, NDArray]] = {}
    for group in groups:
        methods.setdefault(group.label, {})[group.env] = scores[group.env, group.name]
    shared = [env for env in envs_of(groups) if all(env in tasks for tasks in methods.values())]
    if not shared:
        raise ConfigError("a performance profile compares settings on the same tasks, but no task has finished runs of "
                          f"all of these: {', '.join(methods)}. Name runs of one study, or fewer methods")  # fmt: skip
    reference, scale = _reference(groups, scores, shared)
    normal = {m: stats.human_normalised({e: tasks[e] for e in reference}, reference) for m, tasks in methods.items()}
    low = min(float(v.min()) for tasks in normal.values() for v in tasks.values())
    high = max(float(v.max()) for tasks in normal.values() for v in tasks.values())
    margin = 0.05 * (high - low or 1)
    thresholds = np.linspace(min(0, low) - margin, high + margin, 201)
    figure, panels = panels_for(["all"], width=6.4, height=3.8)
    axes, styles = panels["all"], styles_of(groups)
    for method, tasks in normal.items():
        above, lower, upper = stats.performance_profile(tasks, thresholds, seed=SEED, repetitions=REPETITIONS)
        if lower is not None and upper is not None:
            axes.fill_between(thresholds, lower, upper, color=styles[method]["color"], alpha=0.18, lw=0)
        axes.plot(thresholds, above, **styles[method], linewidth=1.8, label=method)
    axes.set_xlabel(f"normalised score τ ({scale})")
    axes.set_ylabel("fraction of runs above τ")
    axes.set_title(f"{len(reference)} task{'s' * (len(reference) > 1)}, {SCORES[kind]}", loc="left", fontsize=10)
    counts = counts_of([g for g in groups if g.env in reference], finished=True)
    title = f"band: pointwise 95 % stratified bootstrap interval over runs (none where a task has fewer than {MIN_N})"
    legend(figure, panels, title, counts=counts)
    return figure


def _reference(groups: Sequence[Group], scores: dict, envs: list[str]) -> tuple[dict[str, tuple[float, float]], str]:
    """{env: (score that counts 0, score that counts 1)}, and the scale in words."""
    human = atari_reference()
    if all(env in human for env in envs):
        return {env: human[env] for env in envs}, "0: random policy, 1: human"
    reference = {}
    for env in envs:
        random = next((g.random for g in groups if g.env == env and g.random is not None), None)
        best = max(float(runs.max()) for (at, _), runs in scores.items() if at == env)
        if random is not None and best > random:
            reference[env] = random, best
    if not reference:
        raise ConfigError(f"nothing to normalise by: in {', '.join(envs)} no run is better than the random policy")
    return reference, "0: random policy, 1: best run here"
