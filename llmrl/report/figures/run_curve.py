"""The learning curve of one run: greedy evaluations, training episodes, the random policy."""

from pathlib import Path

import numpy as np

from llmrl.runs.files import read_json, read_jsonl

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # distinct for colour-blind readers (Okabe and Ito)


def draw_curve(directory: Path) -> Path | None:
    """Writes plots/curve.png from the run's jsonl files; None where there is no evaluation to draw."""
    rows = read_jsonl(directory / "eval.jsonl")
    greedy = [r for r in rows if r["policy"] == "greedy"]
    if not greedy:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2))
    figure.subplots_adjust(left=0.13, right=0.97, top=0.92, bottom=0.13)  # a third faster than a computed layout
    axes = figure.subplots()
    episodes = [r for r in read_jsonl(directory / "metrics.jsonl") if r["kind"] == "episode"]
    if episodes:
        steps, returns = [e["env_steps"] for e in episodes], [e["return"] for e in episodes]
        axes.plot(steps, returns, ".", color=GREY, alpha=0.35, markersize=3, label="training episode, exploring")
    steps = [r["env_steps"] or r["updates"] for r in greedy]  # an offline run makes no env_steps
    quartiles = np.array([np.quantile(r["returns"], (0.25, 0.75)) for r in greedy]).T
    axes.fill_between(steps, *quartiles, color=BLUE, alpha=0.2, linewidth=0, label="its middle half of episodes")
    label = f"greedy evaluation, mean of {len(greedy[-1]['returns'])} episodes"
    axes.plot(steps, [r["return_mean"] for r in greedy], "-o", color=BLUE, markersize=4, label=label)
    if random := next((r for r in rows if r["policy"] == "random"), None):
        axes.axhline(random["return_mean"], color=ORANGE, linestyle="--", label="random policy")
    config = read_json(directory / "config.json")
    names = config["choices"]
    axes.set_title(f"{names['method']} · {names['agent']} · {names['env']} · seed {config['seed']}", loc="left")
    axes.set_xlabel("env_steps" if any(r["env_steps"] for r in greedy) else "updates")
    axes.set_ylabel("episode return")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: ("greedy" not in labels[i], "middle" not in labels[i], i))
    axes.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, fontsize=9)
    path = directory / "plots" / "curve.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
