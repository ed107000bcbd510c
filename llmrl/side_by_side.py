"""`llmrl run -m hydra/launcher=joblib`: the runs of a sweep in processes of this machine, as with `plan --run -j`.
Joblib itself is not asked: with it, one worker that is killed ends the whole sweep."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.checks import Count
from llmrl.clusters.works import check_unstacked, works_of
from llmrl.config import checked_at
from llmrl.hydra_compose import launcher
from llmrl.report.plan import executor
from llmrl.runs.children import FAILURE, worst
from llmrl.runs.stacked import Job

NAME = "hydra/launcher=joblib"
CTRL_C = 130


@dataclass(frozen=True)
class Settings:
    """conf/hydra/launcher/joblib.yaml"""

    n_jobs: Count


def side_by_side(jobs: Sequence[Job], launching: Sequence[str]) -> int:
    """Carries out the runs, and prints each one's output when it has ended. Returns the worst exit code; a
    process that was killed, or refused, has failed. Raises ConfigError."""
    settings = checked_at("hydra.launcher", Settings, launcher(launching), {})
    check_unstacked(works := works_of(jobs))
    paths = [work.path for work in works]
    processes = [
        executor.Job(
            f"llmrl run {shlex.join(texts)}", executor.llmrl_run(texts), gpu=node["compute"]["device"] == "cuda"
        )
        for node, texts in jobs
    ]
    gpus = executor.gpus() if any(process.gpu for process in processes) else []
    ended = executor.execute(processes, settings.n_jobs, gpus, _tell)
    if len(ended) < len(processes) or any(end.outcome == executor.STOPPED for end in ended):
        print("Stopped. The same command goes on.", file=sys.stderr)
        return CTRL_C
    return FAILURE if any(end.outcome == executor.FAILED for end in ended) else worst(paths)


def _tell(ended: executor.Ended) -> None:
    print(f"{ended.outcome}: {ended.job.name}\n{ended.output}", flush=True)
