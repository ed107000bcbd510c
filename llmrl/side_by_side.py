"""`llmrl run -m hydra/launcher=joblib`: the runs of a sweep in processes of this machine, as with `plan --run -j`.
Joblib itself is not asked: with it, one worker that is killed ends the whole sweep."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.checks import Count
from llmrl.clusters.works import check_unstacked, works_of
from llmrl.config import checked_at, from_node, identity, method_of, run_path, shared
from llmrl.hydra_compose import launcher
from llmrl.report.plan import executor
from llmrl.report.plan.progress import GridProgress
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
    processes = [process_of(node, texts) for node, texts in jobs]
    gpus = executor.gpus() if any(process.gpu for process in processes) else []
    with GridProgress(processes, settings.n_jobs) as progress:

        def tell(ended: executor.Ended) -> None:
            progress.ended(ended)
            print(ended.output, flush=True)

        ended = executor.execute(processes, settings.n_jobs, gpus, tell, progress.begun, progress.tick)
    print(progress.summary())
    if len(ended) < len(processes) or any(end.outcome == executor.STOPPED for end in ended):
        print("Stopped. The same command goes on.", file=sys.stderr)
        return CTRL_C
    return FAILURE if any(end.outcome == executor.FAILED for end in ended) else worst(paths)


def process_of(node: Mapping[str, Any], overrides: Sequence[str]) -> executor.Job:
    """The process of one run."""
    config = shared(from_node({key: value for key, value in node.items() if key != "rerun"}, overrides))
    method = method_of(config.choices["method"])
    kind = tuple(config.choices[key] for key in ("method", "agent", "env"))
    length, unit = method.work(config)
    place = run_path(config, identity(config, method.reads(config.method)))
    part = executor.Part(f"{' · '.join(kind)} · seed {config.seed}", place, length, unit, kind)
    command = f"llmrl run {shlex.join(overrides)}"
    return executor.Job(command, executor.llmrl_run(overrides), config.compute.device == "cuda", parts=(part,))
