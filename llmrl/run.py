"""`llmrl run`: Hydra composes conf/, and the composed run is carried to its end, whatever interrupted it before.

Exit codes: 0 done (or done before), 1 failed, 2 the command asks for something wrong, 75 try again later (alive
elsewhere, or paused), 128 + n stopped by signal n with a checkpoint.
"""

import errno
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from llmrl.checks import ConfigError, path_of
from llmrl.conf_files import conf_root
from llmrl.hydra_errors import explain, plain
from llmrl.hydra_search import look_there_too
from llmrl.run_flags import arranged
from llmrl.runs.files import DiskError, read_json, remove_empty, topmost_missing, write_json, write_text
from llmrl.runs.finished import finished_before, set_aside, show_result, tell_finished
from llmrl.runs.identity import (
    DONE,
    FAILED,
    INTERRUPTED,
    PAUSED,
    RUNNING,
    IdentityClash,
    RunAlive,
    RunDirectory,
)

OK, FAILURE, BAD_INPUT, TRY_LATER = 0, 1, 2, 75
Job = tuple[dict[str, Any], list[str]]  # a composed node, and the overrides that made it


def main(args: list[str]) -> int:
    """Runs the command line `args` (all that stands behind `llmrl run`); with -m, every job of the sweep."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's exceptions come to us, and we say them shorter
    args = args or ["experiment=quickstart"]
    if args[0] == "--from":
        return run_from(args[1:])
    try:
        args = arranged(args)
    except ConfigError as error:
        return say(str(error), BAD_INPUT)
    jobs: list[Job] = []  # nothing runs before all of a sweep is composed and checked
    wrong: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(conf_root()), config_name="run")
    def compose(node: Any) -> None:
        about = HydraConfig.get()
        try:
            jobs.append((plain(node, about.runtime.choices), list(about.overrides.task)))
        except ConfigError as error:
            wrong.append(str(error))

    sys.argv = ["llmrl run", *args]
    look_there_too()
    made = register_sweeps()
    try:
        compose()
    except SystemExit as end:
        return int(end.code or OK)
    except Exception as error:
        wrong.append(explain(error, [arg for arg in args if not arg.startswith("-")]))
    if wrong := list(dict.fromkeys(wrong)) or unusable(jobs):
        codes = [say("\n".join(wrong), BAD_INPUT)]
    else:
        codes = run_jobs(jobs)
    if set(codes) == {BAD_INPUT}:  # nothing was run: leave nothing
        for folder, above in made.items():
            if above is not None:
                with suppress(OSError):  # it was not made, or could not be
                    (folder / "multirun.yaml").unlink()
                remove_empty(above)
    if codes and codes[-1] >= 128:
        return codes[-1]
    return next((code for code in codes if code != OK), OK)


def unusable(jobs: Sequence[Job]) -> list[str]:
    """What is wrong with the runs of a sweep, each with its overrides; a single run checks itself."""
    from llmrl.config import from_node

    wrong = []
    for node, overrides in jobs if len(jobs) > 1 else ():
        try:
            from_node({key: value for key, value in node.items() if key != "rerun"}, overrides)
        except ConfigError as error:
            wrong.append(f"{error}\n(of the sweep: {' '.join(overrides)})")
    return wrong


def run_jobs(jobs: Sequence[Job]) -> list[int]:
    """The exit codes of the runs, one after the other. One that fails does not end the sweep; a signal is meant for the
    whole of it."""
    codes: list[int] = []
    for node, overrides in jobs:
        codes.append(run_node(node, overrides))
        if codes[-1] >= 128:
            break
    return codes


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


def say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def run_from(args: list[str]) -> int:
    """`llmrl run --from <directory>`: goes on with the run that lies there, or begins it from its config.json."""
    from llmrl.runs.children import follow_parent

    if len(args) != 1:
        return say("llmrl run --from <run directory>: takes one directory, and nothing else", BAD_INPUT)
    follow_parent()
    place = Path(os.path.expanduser(args[0]))
    try:
        node = read_json(place / "config.json")
    except (OSError, ValueError, RecursionError) as error:
        return say(f"{place} is no run directory: its config.json cannot be read ({error})", BAD_INPUT)
    return run_node(node, [], place)


def run_node(node: dict[str, Any], overrides: list[str], place: Path | None = None) -> int:
    """One run, from its composed node to its exit code, in `place` or where its identity says. Never raises for what
    a user or a machine did wrong."""
    directory: RunDirectory | None = None
    above: Path | None = None  # the topmost directory that is made for this run
    try:
        from llmrl.config import check_own, from_node, identity, method_of, run_path, shared

        try:
            outputs = Path(check_own(node, overrides)["compute"].outputs)
        except ConfigError:
            from_node(node, overrides)  # says all that is wrong at once
            raise
        rerun = node.pop("rerun", False)
        if not rerun and not place and (finished := finished_before(node, outputs)):
            tell_finished(finished)
            return OK
        config = shared(from_node(node, overrides))
        method = method_of(config.choices["method"])()
        who = identity(config, method.reads(config.method))
        path = place or run_path(config, who)
        above = topmost_missing(path)
        directory = RunDirectory(path)
        fresh = not path.exists()
        directory.acquire(who)
        if rerun and directory.status().get("status") == DONE:
            set_aside(directory.path, outputs)
            directory.release()  # the lock went with the old directory
            fresh = True
            directory.acquire(who)
    except ConfigError as error:
        return say(str(error), BAD_INPUT)
    except (RunAlive, IdentityClash) as error:
        return say(str(error), TRY_LATER)
    except OSError as error:  # the disk is full, or something may not be read or written
        if not out_of_space(error):
            remove_empty(above)
            what = f"compute.outputs: {error.filename or path}: {error.strerror}"
            return say(f"{what}. Choose a directory that may be written.", BAD_INPUT)
        if directory is None:
            return say(f"{type(error).__name__}: {error}", FAILURE)
        code = failed(directory, error)
        directory.release()
        return code
    try:
        if directory.status().get("status") == DONE:
            tell_finished(directory)
            return OK
        before = directory.status()
        return carry_out(config, method, directory, node)
    except ConfigError as error:
        if not place and fresh and not (directory / "checkpoint").exists():  # nothing was trained: leave nothing
            shutil.rmtree(directory.path, ignore_errors=True)
            remove_empty(above)
        else:
            directory.set_status(FAILED if place else before.get("status", INTERRUPTED), reason=str(error))
        return say(str(error), BAD_INPUT)
    finally:
        directory.release()


def carry_out(config: Any, method: Any, directory: RunDirectory, node: dict[str, Any]) -> int:
    """Runs the method in its directory and writes down how it ended. Raises ConfigError before anything is trained."""
    from llmrl import build, context
    from llmrl.llm import client
    from llmrl.runs.children import ChildEnded
    from llmrl.runs.console import TrainingProgress
    from llmrl.runs.log import RunLog, check_tensorboard
    from llmrl.runs.processor import processor
    from llmrl.runs.stop import Paused, Stop, Stopped

    build.set_up_torch(config)
    asks = "llm" in method.reads(config.method)
    if asks:
        client.preflight(config.llm)
    if (starts := getattr(config.agent, "learning_starts", 0)) >= config.budget.env_steps:
        say(f"agent.learning_starts={starts:,} and only {config.budget.env_steps:,} env_steps: no update is made", OK)
    if config.log.tensorboard:
        check_tensorboard()
    stop = Stop()
    log: RunLog | None = None
    try:
        with stop.installed():
            directory.set_status(RUNNING, **{f"target_{config.budget.unit}": config.budget.length})
            write_json(directory / "config.json", node)
            changed = directory.record_start(
                {"device": config.compute.device, "threads": config.compute.threads} | processor()
            )
            if changed and (directory / "checkpoint").exists():
                say(f"The run goes on under other conditions, which may change bits: {', '.join(changed)}", OK)
            (directory / "error.txt").unlink(missing_ok=True)
            log = RunLog(directory.path, *mirrors_of(config, directory.path, node))
            with TrainingProgress(config.budget.length, config.budget.unit, enabled=config.log.progress) as progress:
                report = StatusReport(directory, progress)
                ctx = context.RunContext(config, directory.path, stop, log, report, directory.set_status)
                result = method.run(ctx)
        if asks and "llm" not in result:
            result["llm"] = {"model": config.llm.model, **ctx.llm.usage()}
        log.flush()
        write_json(directory / "result.json", result)
        directory.set_status(DONE, env_steps=result["env_steps"], updates=result["updates"])
        after_done(directory, ctx)
        return OK
    except Stopped as stopped:
        directory.set_status(INTERRUPTED, reason=str(stopped))
        say(f"\nStopped by {stopped}; the checkpoint is in {directory.path}. The same command goes on.", OK)
        stop.chain()
        return 128 + stopped.signum
    except Paused as paused:
        directory.set_status(PAUSED if paused.later else FAILED, reason=str(paused))
        return say(str(paused), TRY_LATER if paused.later else BAD_INPUT)
    except ConfigError:
        raise
    except Exception as error:
        if isinstance(error, ChildEnded) and error.code >= 128:
            directory.set_status(INTERRUPTED, reason=str(error))
            return say(f"{error}. The same command goes on.", error.code)
        return failed(directory, error)
    finally:
        if log:
            log.close()


def out_of_space(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class StatusReport:
    """Tells the progress display where training stands, and now and then status.json."""

    EVERY_S = 10.0

    def __init__(self, directory: RunDirectory, progress: Any) -> None:
        self._directory, self._progress, self._at = directory, progress, 0.0

    def __call__(self, clock: Any, facts: dict) -> None:
        if time.monotonic() - self._at > self.EVERY_S:
            self._at = time.monotonic()
            self._directory.set_status(RUNNING, env_steps=clock.env_steps, updates=clock.updates)
        self._progress(clock, facts)

    def waiting(self, text: str, failed: bool) -> None:
        """Tells both what training waits for."""
        if time.monotonic() - self._at > self.EVERY_S:
            self._at = time.monotonic()
            self._directory.set_status(RUNNING, waiting_for=text)
        self._progress.waiting(text, failed)


def mirrors_of(config: Any, path: Path, node: dict) -> list[Any]:
    """The mirrors that are wanted. One that cannot start is a warning: the jsonl files are the truth."""
    from llmrl.runs.log import TensorBoardMirror, WandbMirror

    wanted: dict[str, Any] = {}
    if config.log.wandb != "off":
        settings = {"mode": config.log.wandb, "project": config.log.wandb_project, "config": node}
        wanted["wandb"] = lambda: WandbMirror(path, **settings)
    if config.log.tensorboard:
        wanted["tensorboard"] = lambda: TensorBoardMirror(path)
    mirrors = []
    for name, start in wanted.items():
        try:
            mirrors.append(start())
        except Exception as error:
            say(f"log.{name}: no mirror ({error}); metrics.jsonl and eval.jsonl hold everything all the same", OK)
    return mirrors


def after_done(directory: RunDirectory, ctx: Any) -> None:
    """Drops the checkpoint (only now: who is killed before DONE goes on from it), draws the curve and shows the result.
    The run is finished, whatever goes wrong here."""

    def draw() -> None:
        from llmrl.report.figures.run_curve import draw_curve

        draw_curve(directory.path)

    for what, step in {
        "checkpoint": ctx.checkpoints.drop, "learning curve": draw, "result": lambda: show_result(directory, "Done")
    }.items():  # fmt: skip
        try:
            step()
        except Exception as error:
            say(f"The run is done; its {what} made trouble: {type(error).__name__}: {error}", OK)


def failed(directory: RunDirectory, error: Exception) -> int:
    """Writes error.txt and FAILED, as far as the disk allows, and says it in one line."""
    full = isinstance(error, DiskError) and out_of_space(error)
    text = f"{type(error).__name__}: {error}"
    if full:
        text = f"The disk with {error.filename} is full ({error.strerror}). Nothing before the last checkpoint is lost."
    where = ""
    with suppress(OSError):
        if directory.status().get("status") != DONE:  # a finished run that cannot be set aside, say
            write_text(directory / "error.txt", "".join(traceback.format_exception(error)))
            directory.set_status(FAILED, reason=text)
            where = f" Details: {directory / 'error.txt'}."
    advice = "Free some space, then the same command goes on." if full else "The same command tries again."
    return say(f"Failed. {text}{where} {advice}", FAILURE)
