"""What policies are judged by, which no reward is: success where the environment tells of it, else the way forward."""

from pathlib import Path

import numpy as np

from llmrl.runs.files import read_jsonl

SUCCESS = "success_official"  # of each step of an environment that has goals
PROGRESS = "progress"  # metres forward in an episode, of one that has none
UNITS = {SUCCESS: "success rate", PROGRESS: "metres forward in an episode"}


def fitness(directory: Path) -> list[float]:
    """The mean over the episodes of each evaluation, in the order of training; without the one before any training,
    which no reward has shaped."""
    rows = [row for row in read_jsonl(directory / "eval.jsonl") if row["policy"] == "greedy" and row["env_steps"]]
    return [float(np.mean(row[measure])) for row in rows for measure in UNITS if measure in row]
