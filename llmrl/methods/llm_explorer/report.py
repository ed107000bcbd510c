"""What LLM-Explorer adds to console, figures and page: the LLM's prompts and answers between episodes, and the
resulting distributions or biases over training."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmrl.checks import ConfigError
from llmrl.contracts.report import Column, Details, FigureKind, PaperReport, Value
from llmrl.llm.transcript import Transcript
from llmrl.report.figures.style import GREY, many_colours, panels_for, same_range, shortened, thousands, wrapped
from llmrl.report.store import files
from llmrl.report.store.groups import Group
from llmrl.report.store.record import RunRecord
from llmrl.runs.identity import DONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12  # runs in a figure
VECTORS = ("distribution", "bias")  # of discrete actions, of continuous ones


@dataclass
class Refresh:
    """One question to the LLM, after `episode` episodes had ended."""

    episode: int
    env_steps: int  # at which the answer began to count
    counted: bool  # False: training had not taken the answer up, or not yet (method.asynchronous)
    episode_return: float | None  # of the episode in the prompt
    episode_text: str = ""  # that episode as the prompt has it: return and sampled actions
    description: str = ""  # the LLM's, of the first call
    answers: list[str] = field(default_factory=list)  # all numeric answers, the rejected ones too
    rejected: list[str] = field(default_factory=list)  # "reason: detail" of each answer that could not be used
    vector: list[float] | None = None  # None: no answer could be used


def vector_name(record: RunRecord) -> str | None:
    """Either "distribution" or "bias"; None where the run has neither."""
    return next((name for name in VECTORS if any(name in row for row in _events(record))), None)


def refreshes(record: RunRecord) -> list[Refresh]:
    """All of a run, in the order of training; those of episodes that a resume has yet to make again are left out.
    Raises DamagedFile or ReplayError where metrics.jsonl or llm.jsonl is corrupt."""
    if not (record.path / "llm.jsonl").exists():
        return []
    rows = files.rows(record.path / "metrics.jsonl", whole=record.status == DONE)
    ended = {row["episodes"]: row for row in rows if row.get("kind") == "episode"}
    transcript = Transcript(record.path / "llm.jsonl", read_only=True)
    asynchronous = record.config["method"].get("asynchronous", False)
    found: dict[int, Refresh] = {}

    def at(row: dict) -> Refresh | None:
        episode = int(row["index"].partition("/")[0])
        if not row["purpose"].startswith("llm_explorer.") or episode not in ended:
            return None
        last = ended[episode]
        return found.setdefault(episode, Refresh(episode, last["env_steps"], not asynchronous, last["return"]))

    for call in transcript.calls.values():
        if (refresh := at(call)) is None:
            continue
        text = str(call["messages"][-1]["content"]).partition("\n\n")[0]
        if call["purpose"] == "llm_explorer.status":
            refresh.episode_text, refresh.description = text, call["answer"]
        else:
            refresh.episode_text = refresh.episode_text or text
            refresh.answers.append(call["answer"])
    for event in transcript.events.values():
        if (refresh := at(event)) is None:
            continue
        if event["event"] == "rejected":
            refresh.rejected.append(f"{event['reason']}: {event.get('detail', '')}")
        if event["event"] == "applied":
            refresh.env_steps, refresh.counted = event["env_steps"], True
        for name in VECTORS:
            refresh.vector = event.get(name, refresh.vector)
    return [found[episode] for episode in sorted(found)]


def over_training(record: RunRecord) -> tuple[NDArray, NDArray]:
    """env_steps (n,) from which each vector counted, and the vectors (n, actions). Plain exploration (uniform, or no
    bias) stands before the first answer, and after a failed one where method.on_failure says so."""
    asked = refreshes(record)
    known = next((r.vector for r in asked if r.vector is not None), None)
    if known is None:
        return np.empty(0, np.int64), np.empty((0, 0))
    plain = [1 / len(known)] * len(known) if vector_name(record) == "distribution" else [0.0] * len(known)
    back_to_plain = record.config["method"].get("on_failure") == "uniform"
    steps, vectors = [0], [plain]
    for refresh in asked:
        if refresh.counted and (refresh.vector is not None or back_to_plain):
            steps.append(refresh.env_steps)
            vectors.append(refresh.vector or plain)
    return np.array(steps), np.array(vectors, np.float64)


def action_names(record: RunRecord, n: int) -> list[str]:
    """What the task's text calls its n actions or action dimensions: "0 push the cart to the left", …"""
    meanings = record.config["env"].get("task", {}).get("actions") or []
    return [f"{i} {meanings[i]}" if i < len(meanings) else f"{i}" for i in range(n)]


def _events(record: RunRecord) -> list[dict]:
    path = record.path / "llm.jsonl"
    return list(Transcript(path, read_only=True).events.values()) if path.exists() else []


def exploration(groups: Sequence[Group]) -> "Figure":
    """The distribution over actions, stacked, or the bias of each dimension, over training; a panel per run (the first
    12). Raises ConfigError where no LLM has set any."""
    runs = [(group, run) for group in groups for run in group.runs if vector_name(run)]
    if not runs:
        raise ConfigError("no LLM has set a distribution or a bias in these runs; plot runs of method=llm_explorer")
    names = [f"{group.env} · {group.label} · seed {run.seed}" for group, run in runs]
    unique = {f"{i}": run for i, (_, run) in enumerate(runs[:MAX_PANELS])}
    figure, panels = panels_for(list(unique), width=5.6, height=3.4, columns=2)
    for (name, axes), title in zip(panels.items(), names):
        draw_exploration(axes, unique[name])
        axes.set_title(wrapped(title, 72), loc="left", fontsize=8)
    if biased := [panels[name] for name, run in unique.items() if vector_name(run) == "bias"]:
        same_range(biased)
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
    colours = many_colours(vectors.shape[1])
    if vector_name(run) == "distribution":
        areas: list[Any] = axes.stackplot(steps, vectors.T, step="post", colors=colours, labels=names, linewidth=0)
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


class LLMExplorerReport(PaperReport):
    """The refreshes of a run."""

    figures = {
        "exploration": FigureKind(
            exploration, "What the LLM made of exploration: the distribution over actions, or the bias, over training."
        )
    }

    def failures(self, result: Mapping[str, Any]) -> list[str]:
        found = result.get("llm_explorer", {})
        failed = found.get("failed_refreshes")
        return [f"{failed} of {found['refreshes']} refreshes without a usable answer"] if failed else []

    def details(self, record: RunRecord) -> Details | None:
        asked = [refresh for refresh in refreshes(record) if refresh.episode_text]
        if not asked:
            return None
        n = next((len(refresh.vector) for refresh in asked if refresh.vector), 0)
        used = Column("explored with", tuple(action_names(record, n)), signed=vector_name(record) == "bias")
        heads = ("after episode", "env_steps", "return", "text about the episode", "description", "answers")
        columns = [*map(Column, heads), used]
        return Details(f"Episode by episode: {len(asked):,} answers", columns, [_row(refresh) for refresh in asked])


def _row(refresh: Refresh) -> list[Value]:
    answers = [*refresh.answers, *(f"not usable: {why}" for why in refresh.rejected)]
    return [
        refresh.episode, refresh.env_steps, "" if refresh.episode_return is None else refresh.episode_return,
        refresh.episode_text, refresh.description, "\n".join(answers), refresh.vector or "no usable answer",
    ]  # fmt: skip


REPORT = LLMExplorerReport
