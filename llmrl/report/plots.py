"""Pictures of many runs: learning curves, performance profiles, bars per task, what an LLM made of exploration, and how
rough the reward is along the dimensions of a state that an LLM augmented.

Each function returns a matplotlib Figure; nothing global is touched. What a line, band or bar is stands in its legend.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.intervals import MIN_N
from llmrl.report import stats
from llmrl.report.groups import SCRIPTED, Group, counted
from llmrl.report.published import atari_reference
from llmrl.report.refreshes import action_names, over_training, vector_name
from llmrl.report.searches import Tried, shared, tried
from llmrl.report.store import Kind, RunRecord, score
from llmrl.runs.files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
GREY = "#777777"
REPETITIONS, SEED = 2_000, 0  # of a profile's bootstrap; a line on paper is wider than what more would change
SCORES: dict[Kind, str] = {
    "last": "last greedy evaluation",
    "best": "best greedy evaluation",
    "mean_last_k": "mean of the last 5 greedy evaluations",
    "train_last_100": "mean of the last 100 training episodes",
    "train_last_tenth": "mean of the training episodes of its last tenth",
}
INTERVAL = f"95 % interval (Student's t; none below {MIN_N} runs)"
MAX_PANELS = 12  # of runs in a picture of exploration, of searches in one of constants
MAX_NAMED = 45  # dimensions of a state whose bars have their names beside them
ROUGHNESS = {  # method.search.lipschitz -> what the constants are of
    "episode": "the reward", "cumulative": "the reward", "discounted_return": "the discounted return",
    "spectral_norm": "the learnt value",
}  # fmt: skip


def save(figure: "Figure", out: Path, name: str) -> list[Path]:
    """Writes <name>.png and <name>.pdf into `out`, which is made."""
    paths = [out / f"{name}.{kind}" for kind in ("png", "pdf")]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, dpi=150)
    return paths


# --- learning curves --------------------------------------------------------------------------------------------------


def curves(groups: Sequence[Group]) -> "Figure":
    """Greedy evaluations over training, a panel per environment. ConfigError where nothing has been evaluated yet."""
    groups = [g for g in groups if any(len(run.evals.steps) for run in g.runs)]
    if not groups:
        raise ConfigError("no run here has an evaluation yet: there is no learning curve to draw")
    figure, panels = panels_for(_envs(groups), width=4.6, height=3.3)
    styles = _styles(groups)
    for env, axes in panels.items():
        for group in (g for g in groups if g.env == env):
            draw_runs(axes, group.runs, styles[group.label], group.label)
        _draw_random(axes, groups, env)
        axes.set_title(env, loc="left", fontsize=10)
        axes.set_xlabel(units(run for group in groups if group.env == env for run in group.runs))
        axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
    name_left(panels, "return, greedy evaluation")
    legend(figure, panels, f"mean over runs; band: {INTERVAL}", counts=_counts(groups))
    return figure


def units(runs: Iterable[RunRecord]) -> str:
    """What runs are measured in: env_steps, updates (offline training), or both."""
    return " or ".join(sorted({run.unit for run in runs}))


def draw_runs(axes: "Axes", runs: Sequence[RunRecord], style: dict[str, Any], label: str) -> None:
    """One line: the mean over the runs, with a band where there are enough. What learns nothing is a level."""
    steps, means = together(runs)
    if all(run.learns_nothing for run in runs):  # from edge to edge of the panel
        steps, means = np.array([0, 1]), means[:, [-1, -1]]
        style = style | {"linestyle": "--", "transform": axes.get_yaxis_transform()}
    axes.plot(steps, means.mean(axis=0), **style, linewidth=1.8 if len(means) > 1 else 1, label=label)
    if len(means) >= MIN_N:
        ends = [stats.student(column) for column in means.T]
        band = {key: value for key, value in style.items() if key != "linestyle"} | {"alpha": 0.18, "lw": 0}
        axes.fill_between(steps, [e.low for e in ends], [e.high for e in ends], **band)


def together(runs: Sequence[RunRecord]) -> tuple[NDArray, NDArray]:
    """(env_steps or updates (t,), mean returns (runs, t)): the evaluations that all runs have made so far. A run
    without any is left out."""
    evals = [run.evals for run in runs if len(run.evals.steps)]
    steps = evals[0].steps
    for other in evals[1:]:
        steps = np.intersect1d(steps, other.steps)
    return steps, np.stack([e.means[np.isin(e.steps, steps)] for e in evals])


# --- bars -------------------------------------------------------------------------------------------------------------


def bars(groups: Sequence[Group], kind: Kind = "last") -> "Figure":
    """One bar per setting and a dot per finished run, a panel per environment. ConfigError where no run is finished."""
    groups, scores = _scored(groups, kind)
    styles = _styles(groups)
    figure, panels = panels_for(_envs(groups), width=3.4, height=3.2)
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
        _draw_random(axes, groups, env)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks([])
        axes.set_xlim(-0.6, max(len(here), 3) - 0.4)
        axes.set_title(env, loc="left", fontsize=10)
    name_left(panels, f"return, {SCORES[kind]}")
    told = f"bar: mean over runs; line: {INTERVAL}; circle: one run"
    legend(figure, panels, told, counts=_counts(groups, finished=True))
    return figure


# --- performance profiles ---------------------------------------------------------------------------------------------


def profile(groups: Sequence[Group], kind: Kind = "last") -> "Figure":
    """The fraction of runs above each normalised score, over the tasks that all settings share. Human-normalised where
    all tasks are Atari games with a known human score, else 0 is the random policy and 1 the best run here. ConfigError
    where no task is shared or none can be normalised."""
    groups, scores = _scored(groups, kind)
    methods: dict[str, dict[str, NDArray]] = {}
    for group in groups:
        methods.setdefault(group.label, {})[group.env] = scores[group.env, group.name]
    shared = [env for env in _envs(groups) if all(env in tasks for tasks in methods.values())]
    if not shared:
        raise ConfigError("a performance profile compares settings on the same tasks, but no task has finished runs of "
                          f"all of these: {', '.join(methods)}. Name runs of one study, or fewer methods")  # fmt: skip
    reference, told = _reference(groups, scores, shared)
    normal = {m: stats.human_normalised({e: tasks[e] for e in reference}, reference) for m, tasks in methods.items()}
    low = min(float(v.min()) for tasks in normal.values() for v in tasks.values())
    high = max(float(v.max()) for tasks in normal.values() for v in tasks.values())
    margin = 0.05 * (high - low or 1)
    thresholds = np.linspace(min(0, low) - margin, high + margin, 201)
    figure, panels = panels_for(["all"], width=6.4, height=3.8)
    axes, styles = panels["all"], _styles(groups)
    for method, tasks in normal.items():
        above, lower, upper = stats.performance_profile(tasks, thresholds, seed=SEED, repetitions=REPETITIONS)
        if lower is not None and upper is not None:
            axes.fill_between(thresholds, lower, upper, color=styles[method]["color"], alpha=0.18, lw=0)
        axes.plot(thresholds, above, **styles[method], linewidth=1.8, label=method)
    axes.set_xlabel(f"normalised score τ ({told})")
    axes.set_ylabel("fraction of runs above τ")
    axes.set_title(f"{len(reference)} task{'s' * (len(reference) > 1)}, {SCORES[kind]}", loc="left", fontsize=10)
    counts = _counts([g for g in groups if g.env in reference], finished=True)
    told = f"band: pointwise 95 % stratified bootstrap interval over runs (none where a task has fewer than {MIN_N})"
    legend(figure, panels, told, counts=counts)
    return figure


def _reference(groups: Sequence[Group], scores: dict, envs: list[str]) -> tuple[dict[str, tuple[float, float]], str]:
    """{env: (score that counts 0, score that counts 1)}, and how to say it."""
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


# --- what the LLM made of exploration ---------------------------------------------------------------------------------


def exploration(groups: Sequence[Group]) -> "Figure":
    """The distribution over actions, stacked, or the bias of each dimension over training, a panel per run (the first
    12). ConfigError where no LLM has shaped any exploration."""
    runs = [(group, run) for group in groups for run in group.runs if vector_name(run)]
    if not runs:
        raise ConfigError("in none of these runs has an LLM set a distribution or a bias: plot runs of "
                          "method=llm_explorer")  # fmt: skip
    names = [f"{group.env} · {group.label} · seed {run.seed}" for group, run in runs]
    unique = {f"{i}": run for i, (_, run) in enumerate(runs[:MAX_PANELS])}
    figure, panels = panels_for(list(unique), width=5.6, height=3.4, columns=2)
    for (name, axes), title in zip(panels.items(), names):
        draw_exploration(axes, unique[name])
        axes.set_title(_wrapped(title, 72), loc="left", fontsize=8)
    if len(runs) > MAX_PANELS:
        figure.supxlabel(f"the first {MAX_PANELS} of {len(runs)} runs", fontsize=9)
    return figure


def draw_exploration(axes: "Axes", run: RunRecord) -> None:
    """One run's panel. A vector counts from the end of the episode that it answers to the next answer."""
    steps, vectors = over_training(run)
    end = max(run.steps, int(steps[-1]) + 1)
    steps, vectors = np.append(steps, end), np.vstack([vectors, vectors[-1:]])
    names = [shortened(re.split(r"[,;.]", name)[0], 21 if len(vectors.T) > 8 else 44)
             for name in action_names(run, len(vectors.T))]  # fmt: skip
    colours = _many(vectors.shape[1])
    if vector_name(run) == "distribution":
        areas = axes.stackplot(steps, vectors.T, step="post", colors=colours, labels=names, linewidth=0)
        axes.set_ylim(0, 1)
        axes.set_ylabel("probability of exploring")
    else:
        areas = [axes.plot(steps, b, drawstyle="steps-post", color=c, lw=1.2)[0] for b, c in zip(vectors.T, colours)]
        axes.axhline(0, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_ylabel("bias b of N(b, σ²), action units")
    axes.set_xlim(0, end)
    axes.set_xlabel("env_steps")
    axes.xaxis.set_major_formatter(lambda x, _: thousands(x))
    title = "action" if vector_name(run) == "distribution" else "action dimension"
    axes.legend(areas, names, loc="upper left", bbox_to_anchor=(0, -0.2), frameon=False, fontsize=7,
                ncols=2 if len(names) <= 8 else 3, title=title, title_fontsize=7, alignment="left",
                handlelength=1.2, columnspacing=1.2)  # fmt: skip


# --- source and augmented state (LESR) --------------------------------------------------------------------------------


def lipschitz(groups: Sequence[Group]) -> "Figure":
    """Lipschitz constants per dimension, of the source state beside the added features, in the training of the program
    that a search chose; a panel per search (the first 12). ConfigError where no search has recorded any."""
    found = []
    for place, (group, run) in shared(groups).items():
        programs = [one for one in tried(run) if one.lipschitz]
        if chosen := next((one for one in programs if one.outcome == "chosen"), None):
            told = f" ({SCRIPTED})" if group.scripted else ""
            told = f"{group.env} · search {Path(place).name}{told} · program {chosen.index}, score {chosen.score:,.1f}"
            found.append((told, run, chosen, programs))
    if not found:
        raise ConfigError("in none of these runs has a search recorded Lipschitz constants: plot finished runs of "
                          "method=lesr")  # fmt: skip
    here = {f"{i}": one for i, one in enumerate(found[:MAX_PANELS])}
    longest = max(len(chosen.lipschitz) for *_, chosen, _ in here.values())
    figure, panels = panels_for(list(here), width=6.4, height=1.2 + 0.17 * min(longest, MAX_NAMED), columns=2)
    for name, axes in panels.items():
        title, run, chosen, programs = here[name]
        _draw_constants(axes, run, chosen, programs)
        axes.set_title(_wrapped(title, 72), loc="left", fontsize=8)
    told = "bar: the chosen program's training; circle: another program's, of the same source dimension"
    legend(figure, panels, told, counts={"source dimension": ""})  # which stands first
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


PLOTS: dict[str, Callable[..., "Figure"]] = {
    "curves": curves, "profile": profile, "bars": bars, "exploration": exploration, "lipschitz": lipschitz,
}  # fmt: skip


# --- shared -----------------------------------------------------------------------------------------------------------


def panels_for(
    names: Sequence[str], width: float, height: float, columns: int = 3
) -> tuple["Figure", dict[str, "Axes"]]:
    """A figure with a panel for each name; sizes in inches, of one panel."""
    from matplotlib.figure import Figure

    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(width * columns, 5.5), height * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid:
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, dict(zip(names, grid))


def legend(figure: "Figure", panels: dict[str, "Axes"], told: str, counts: dict[str, str]) -> None:
    """One legend for all panels, below them; its title says what line and band are."""
    handles = {k: h for axes in panels.values() for h, k in zip(*axes.get_legend_handles_labels())}
    handles = {k: handles[k] for k in sorted(handles, key=lambda k: (k not in counts, k))}
    labels = [_wrapped(label + counts.get(label, ""), 60) for label in handles]
    wide = figure.get_figwidth() > 8 and max(map(len, labels)) < 60
    inches = 0.2 + sum(0.19 + 0.135 * label.count("\n") for label in labels) / (2 if wide else 1)
    figure.set_figheight(figure.get_figheight() + max(0, inches - 0.6))  # the panels keep their room
    figure.legend(list(handles.values()), labels, loc="outside lower left", ncols=2 if wide else 1, fontsize=8,
                  frameon=False, title=told, title_fontsize=8, alignment="left")  # fmt: skip


def name_left(panels: dict[str, "Axes"], label: str) -> None:
    """Names the y axis of the panels in the first column."""
    for axes in panels.values():
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel(label, fontsize=9)


def _draw_random(axes: "Axes", groups: Sequence[Group], env: str) -> None:
    random = next((g.random for g in groups if g.env == env and g.random is not None), None)
    if random is not None:
        axes.axhline(random, color=GREY, linestyle=(0, (1, 2)), linewidth=1.5, label="random policy", zorder=1)


def _envs(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(g.env for g in groups))


def styles_for(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash pattern for each label; the same in all panels."""
    n = len(COLOURS)
    return {x: {"color": COLOURS[i % n], "linestyle": LINES[i // n % len(LINES)]} for i, x in enumerate(labels)}


def _styles(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    return styles_for(sorted({g.label for g in groups}))


def _counts(groups: Sequence[Group], *, finished: bool = False) -> dict[str, str]:
    """What `counted` says of each label."""
    told = {}
    for label in {g.label for g in groups}:
        mine = [g for g in groups if g.label == label]
        sizes = [len(g.finished) if finished else sum(len(r.evals.steps) > 0 for r in g.runs) for g in mine]
        unfinished = 0 if finished else sum(len(g.runs) - len(g.finished) for g in mine)
        told[label] = counted(sizes, unfinished, [g.finished if finished else g.runs for g in mine])
    return told


def _scored(groups: Sequence[Group], kind: Kind) -> tuple[list[Group], dict[tuple[str, str], NDArray]]:
    """The groups with finished runs that have such a score, and {(env, name): scores of these runs}."""
    scores = {(g.env, g.name): [score(run, kind) for run in g.finished] for g in groups}
    there = {key: np.array([s for s in values if s is not None]) for key, values in scores.items()}
    there = {key: values for key, values in there.items() if len(values)}
    if not there:
        raise ConfigError(f"no finished run here has a {SCORES[kind]}; `llmrl status` says how the runs stand")
    return [g for g in groups if (g.env, g.name) in there], there


def _many(n: int) -> list[Any]:
    """n colours that differ in lightness as well; from 8 on, a sequence that stays in order without colour."""
    from matplotlib import colormaps

    return list(COLOURS[:n]) if n <= len(COLOURS) else list(colormaps["viridis"](np.linspace(0, 1, n)))


def thousands(x: float) -> str:
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k" if x >= 1e3 else f"{x:g}"


def shortened(text: str, length: int) -> str:
    """The text, cut to at most so many characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _wrapped(text: str, width: int) -> str:
    from textwrap import wrap

    return "\n".join(wrap(text, width)) or text
