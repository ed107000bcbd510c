"""What an LLM read and answered between the episodes of an LLM-Explorer run, and what was drawn from after it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llmrl.llm.transcript import Transcript
from llmrl.report import run_files
from llmrl.report.store import RunRecord
from llmrl.runs.identity import DONE

VECTORS = ("distribution", "bias")  # of discrete actions, of continuous ones


@dataclass
class Refresh:
    """One question to the LLM, after `episode` episodes had ended."""

    episode: int
    env_steps: int  # at which the answer began to count
    counted: bool  # False: training had not taken the answer up, or not yet (method.asynchronous)
    episode_return: float | None  # of the episode that the LLM was told of
    shown: str = ""  # what it was told of that episode: return and sampled actions
    description: str = ""  # what it made of it (stage 1)
    answers: list[str] = field(default_factory=list)  # all numeric answers, the rejected ones too
    rejected: list[str] = field(default_factory=list)  # "reason: detail" of each answer that could not be used
    vector: list[float] | None = None  # None: no answer could be used


def vector_name(record: RunRecord) -> str | None:
    """Either "distribution" or "bias"; None where the run has no such thing."""
    return next((name for name in VECTORS if any(name in row for row in _events(record))), None)


def refreshes(record: RunRecord) -> list[Refresh]:
    """All of a run, in the order of training; those of episodes that a resume has yet to make again are left out.
    Raises DamagedFile or ReplayError where metrics.jsonl or llm.jsonl is corrupt."""
    if not (record.path / "llm.jsonl").exists():
        return []
    rows = run_files.rows(record.path / "metrics.jsonl", whole=record.status == DONE)
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
        told = str(call["messages"][-1]["content"]).partition("\n\n")[0]
        if call["purpose"] == "llm_explorer.status":
            refresh.shown, refresh.description = told, call["answer"]
        else:
            refresh.shown = refresh.shown or told
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
