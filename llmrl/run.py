"""`llmrl run`: Hydra composes conf/; runs/lifecycle.py carries out what it composed.

Exit codes: 0 done (or done before), 1 failed, 2 the command asks for something wrong, 75 try again later (alive
elsewhere, or paused), 128 + n stopped by signal n with a checkpoint.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from llmrl.checks import ConfigError, path_of
from llmrl.conf_files import conf_root
from llmrl.hydra_errors import explain, plain
from llmrl.hydra_search import look_there_too
from llmrl.objective import LAST, objective_of
from llmrl.run_flags import arranged, without_launcher
from llmrl.runs.children import BAD_INPUT, FAILURE, OK, TRY_LATER, follow_parent, run_all, worst_code
from llmrl.runs.files import read_json, remove_empty, topmost_missing
from llmrl.runs.finished import show_result, tell_finished
from llmrl.runs.identity import DONE, RUNNING, RunDirectory
from llmrl.runs.lifecycle import RunResult, carry_out
from llmrl.runs.stacked import Job, carry_out_together, groups_of, refusals
from llmrl.runs.stop import Stop, Stopped
from llmrl.sweep import jobs_of, points_of


def main(args: list[str]) -> int:
    """Runs the command line `args` (all that stands behind `llmrl run`); with -m, every job of the sweep."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's exceptions come to us, and we say them shorter
    args = args or ["experiment=quickstart"]
    if args[0] == "--from":
        return run_from(args[1:])
    try:
        args, launching = without_launcher(arranged(args))
    except ConfigError as error:
        return refused(str(error))
    if (points := points_of(args)) is not None:
        return worst_code(carried_out(*jobs_of(points), launching))
    return by_hydra(args, launching)


def by_hydra(args: list[str], launching: Sequence[str]) -> int:
    """A single run, or a sweep of which a sweeper or launcher of Hydra's decides."""
    jobs: list[Job] = []  # nothing runs before all of a sweep is composed and checked
    wrong: list[str] = []
    codes: list[int] = []  # of runs that a sweeper waits for, since it goes on from what they came to

    @hydra.main(version_base="1.3", config_path=str(conf_root()), config_name="run")
    def compose(node: Any) -> float | None:
        about = HydraConfig.get()
        try:
            job = plain(node, about.runtime.choices), list(about.overrides.task)
        except ConfigError as error:
            wrong.append(str(error))
            return None
        if about.mode == RunMode.MULTIRUN and not str(about.sweeper._target_).endswith(".BasicSweeper"):
            ended, objective = for_sweeper(job)
            codes.append(ended)
            return objective
        jobs.append(job)
        return None

    sys.argv = ["llmrl run", *args]
    look_there_too()
    made = register_sweeps()
    try:
        compose()
    except SystemExit as end:
        return int(end.code or OK)
    except Exception as error:
        wrong.append(explain(error, [arg for arg in args if not arg.startswith("-")]))
    if wrong or not codes:
        codes += carried_out(jobs, list(dict.fromkeys(wrong)), launching)
    if set(codes) == {BAD_INPUT}:  # nothing was run: leave nothing
        for folder, above in made.items():
            if above is not None:
                with suppress(OSError):  # it was not made, or could not be
                    (folder / "multirun.yaml").unlink()
                remove_empty(above)
    return worst_code(codes)


def for_sweeper(job: Job) -> tuple[int, float]:
    """Carries out one run, whose objective a sweeper maximises: its exit code and its objective, NaN where it has none.
    A signal ends the sweep."""
    node, overrides = job
    objective = node.get("objective", LAST)
    ended = carry_out(node, overrides, tell=say)
    code = shown(ended)
    if code >= 128:
        raise SystemExit(code)
    value = objective_of(ended.path, objective) if ended.path is not None and ended.status == DONE else None
    return code, float("nan") if value is None else value


def carried_out(jobs: Sequence[Job], wrong: Sequence[str], launching: Sequence[str]) -> list[int]:
    """The exit codes of all runs, or of handing them in to a launcher; where something is `wrong`, or unusable, it is
    said, and none is begun."""
    if wrong := wrong or unusable(jobs):
        return [refused("\n".join(wrong))]
    return [submit_jobs(jobs, launching)] if launching else run_jobs(jobs)


def unusable(jobs: Sequence[Job]) -> list[str]:
    """What is wrong with the runs of a sweep, each with its overrides; a single run checks itself."""
    from llmrl.config import from_node

    wrong = []
    for node, overrides in jobs if len(jobs) > 1 else ():
        try:
            from_node({key: value for key, value in node.items() if key != "rerun"}, overrides)
        except ConfigError as error:
            wrong.append(f"{error}\n(of the sweep: {' '.join(overrides)})")
    return wrong or refusals(jobs)


def run_jobs(jobs: Sequence[Job]) -> list[int]:
    """The exit codes of the runs, one group after the other. One that fails does not end the sweep; a signal is meant
    for the whole of it."""
    codes: list[int] = []
    for group in groups_of(jobs):
        if len(group) == 1:
            codes.append(run_node(*jobs[group[0]]))
        else:
            codes.extend(shown(ended) for ended in carry_out_together([jobs[i] for i in group], say))
        if any(code >= 128 for code in codes):
            break
    return codes


def submit_jobs(jobs: Sequence[Job], launching: Sequence[str]) -> int:
    """Hands the runs in to a cluster's queue. Returns at once, unless hydra.launcher.wait=true."""
    from llmrl.clusters.commands import submit
    from llmrl.clusters.works import works_of
    from llmrl.side_by_side import NAME, side_by_side

    try:
        if NAME in launching:
            return side_by_side(jobs, launching)
        return submit(works_of(jobs), launching, Path(jobs[0][0]["compute"]["outputs"]))
    except ConfigError as error:
        return refused(str(error))


def register_sweeps() -> dict[Path, Path | None]:
    """`${sweeps:<outputs>}` in conf/run.yaml: where Hydra keeps what it does of a sweep, which it makes before any of
    the sweep's runs is checked. Returns what is asked for, with what has to be made for it."""
    asked: dict[Path, Path | None] = {}

    def sweeps(outputs: Any) -> str:
        try:
            folder = Path(path_of(outputs if isinstance(outputs, str) else "")) / ".sweeps"
        except ValueError as error:
            raise ConfigError(f"compute.outputs: {error}, not {outputs!r}") from error
        asked.setdefault(folder, topmost_missing(folder))
        return str(folder)

    OmegaConf.register_new_resolver("sweeps", sweeps, replace=True)
    return asked


def run_from(args: list[str]) -> int:
    """`llmrl run --from <directory> …`: goes on with the runs that lie there, or begins them from their config.json, in
    turn. With --join, a search that another node carries out is helped with, and waited for. Of several the exit code
    is 75 where one has to wait, else that of one that failed."""
    joins = "--join" in args
    places = [Path(os.path.expanduser(arg)) for arg in args if arg != "--join"]
    if not places:
        return refused("llmrl run --from <run directory> … [--join]: takes directories, and nothing else")
    follow_parent()
    codes = []
    for place in places:
        codes.append(one_from(place, joins))
        if codes[-1] >= 128:
            return codes[-1]
    return next((code for code in (TRY_LATER, FAILURE, BAD_INPUT) if code in codes), OK)


def one_from(place: Path, joins: bool) -> int:
    from llmrl.config import method_of

    try:
        node = read_json(place / "config.json")
    except (OSError, ValueError, RecursionError) as error:
        return refused(f"{place} is not a run directory: its config.json cannot be read ({error})")
    ended = carry_out(node, [], place=place, tell=say)
    if joins and ended.status == RUNNING and method_of(node["choices"]["method"]).artifact:
        return join(place)
    return shown(ended)


def join(search: Path) -> int:
    """Trains candidates of a search until it is finished. Returns its exit code."""
    stop = Stop()
    try:
        with stop.installed():
            (outcome,) = run_all([search], 1, stop)
    except Stopped as stopped:
        return 128 + stopped.signum
    say(f"{search}: {outcome.status}{outcome.reason and f', {outcome.reason}'}")
    return outcome.code


def run_node(node: dict[str, Any], overrides: list[str], place: Path | None = None) -> int:
    """One run, in `place` or where its identity says; its exit code."""
    return shown(carry_out(node, overrides, place=place, tell=say))


def shown(ended: RunResult) -> int:
    """Prints what a run came to, if it is done. Returns its exit code."""
    if ended.path is not None and ended.status == DONE:
        show(RunDirectory(ended.path), before=ended.before)
    return ended.code


def show(directory: RunDirectory, *, before: bool) -> None:
    """Prints what a run came to. It is finished, whatever goes wrong here."""
    try:
        if before:
            tell_finished(directory)
        else:
            show_result(directory, "Done")
    except Exception as error:
        say(f"The run is done; its result made trouble: {type(error).__name__}: {error}")


def say(text: str) -> None:
    print(f"{text}\n", end="", file=sys.stderr, flush=True)  # in one piece: other seeds' threads write as well


def refused(text: str) -> int:
    say(text)
    return BAD_INPUT
