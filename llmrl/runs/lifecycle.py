"""A run from its configuration to its end, whatever interrupted it before and however it ends now.

Nothing here belongs to a command line: it works in any thread, and what a user or a machine did wrong is a RunResult.
"""

import copy
import errno
import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.checks import ConfigError
from llmrl.config import Config, check_own, from_node, identity, method_of, run_path, shared
from llmrl.contracts.explorer import Clock
from llmrl.contracts.method import Method
from llmrl.objective import LAST, check_objective
from llmrl.runs import lease
from llmrl.runs.children import BAD_INPUT, FAILURE, OK, TRY_LATER, ChildEnded, node_of
from llmrl.runs.files import DiskError, read_json, remove_empty, topmost_missing, write_json, write_text
from llmrl.runs.finished import finished_before, set_aside
from llmrl.runs.identity import (
    DONE,
    FAILED,
    INTERRUPTED,
    PAUSED,
    RUNNING,
    WAITING,
    IdentityClash,
    RunAlive,
    RunDirectory,
    run_with_other_weights,
)
from llmrl.runs.lease import TakenOver
from llmrl.runs.log import RunLog, check_tensorboard, mirrors_of
from llmrl.runs.processor import processor
from llmrl.runs.stop import Paused, Stop, Stopped

REFUSED = "REFUSED"  # nothing was begun: the configuration is invalid, or the directory belongs to another run
Tell = Callable[[str], None]


class End(str):
    """A text for `tell` that stands in the RunResult as well."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        path: its directory; None where its configuration names none.
        status: DONE, INTERRUPTED, PAUSED, FAILED, RUNNING (alive in another process) or REFUSED.
        code: the exit code of `llmrl run`.
        result: what is in result.json; None unless it is DONE.
        message: why it is not DONE, for a person.
        before: it was DONE before, and nothing was run.
    """

    path: Path | None
    status: str
    code: int
    result: dict[str, Any] | None = None
    message: str = ""
    before: bool = False


def carry_out(
    run: Config | Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    place: Path | None = None,
    stop: Stop | None = None,
    tell: Tell = lambda text: None,
    together: Any = None,
    progress: Any = None,
) -> RunResult:
    """Runs it, or goes on with it, and writes down how it ended.

    Raises KeyboardInterrupt on a second ctrl-C, and faults of ours before there is a directory to write them to.

    Args:
        run: a checked configuration, or a composed node.
        overrides: what the node was composed with, for error messages.
        place: the directory; where the identity says if None.
        stop: asked to stop (from any thread), it ends the run with a checkpoint. In the main thread it hears signals.
        tell: gets what a person should read, as it comes; the result's message as an `End`.
        together: the update of an agent together with those of other runs, see loops/lockstep.py.
        progress: what makes its display, see runs/console.py.
    """
    node: Any = json.loads(json.dumps(node_of(run))) if isinstance(run, Config) else copy.copy(run)
    life = _Life(node, tuple(overrides), place, stop or Stop(), tell, together, progress)
    try:
        return life.live()
    except (Exception, Stopped, TakenOver) as error:
        try:
            if life.locked:
                lease.check(life.directory.path)  # a file that its next owner has removed is no failure
            return life.ended_by(error)
        except TakenOver as lost:
            return life.ended_by(lost)
    finally:
        life.close()


def check_here(config: Config, method: Method) -> None:
    """Sets torch up in this thread. Raises ConfigError where the configuration asks for what is not here: a device, the
    key of an LLM's server, a package."""
    from llmrl import build
    from llmrl.llm import client

    build.set_up_torch(config)
    if "llm" in method.reads(config.method):
        client.preflight(config.llm)
    if config.log.tensorboard:
        check_tensorboard()


class _Life:
    """One run in this process."""

    config: Config  # it, and the next two, from _find on
    method: Method
    directory: RunDirectory

    def __init__(
        self,
        node: Any,
        overrides: tuple[str, ...],
        place: Path | None,
        stop: Stop,
        tell: Tell,
        together: Any = None,
        progress: Any = None,
    ) -> None:
        self.node, self.overrides, self.place, self.stop, self.tell = node, overrides, place, stop, tell
        self.together, self.progress = together, progress
        self.path = place  # None: not known yet
        self.named = False  # whether it has a directory
        self.locked = False  # whether that is ours
        self.fresh = False  # whether it was made for this
        self.above: Path | None = None  # the topmost directory that was made for it
        self.before: dict[str, Any] = {}  # its status
        self.log: RunLog | None = None
        self.report: StatusReport | None = None

    def live(self) -> RunResult:
        if (finished := self._find()) is not None:
            return RunResult(finished.path, DONE, OK, read_json(finished / "result.json"), before=True)
        self._train()
        self._after_done()
        return RunResult(self.path, DONE, OK, read_json(self.directory / "result.json"))

    def close(self) -> None:
        self._close_log()
        if self.named:
            self.directory.release()

    def _close_log(self) -> None:
        if self.log is not None:
            self.log.close()
            self.log = None

    def _find(self) -> RunDirectory | None:
        """Makes the run's directory ours. Returns one in which it is finished, if there is one."""
        try:
            outputs = Path(check_own(self.node, self.overrides)["compute"].outputs)
        except ConfigError:
            from_node(self.node, self.overrides)  # says all that is wrong at once
            raise
        rerun = self.node.pop("rerun", False)
        check_objective(self.node.pop("objective", LAST))
        if not rerun and not self.place and (finished := finished_before(self.node, outputs)):
            return finished
        self.config = shared(from_node(self.node, self.overrides))
        self.method = method_of(self.config.choices["method"])()
        who = identity(self.config, self.method.reads(self.config.method))
        path = self.path = self.place or run_path(self.config, who)
        self.above, self.fresh = topmost_missing(path), not path.exists()
        directory = self.directory = RunDirectory(path)
        self.named = True
        directory.acquire(who)
        if rerun and directory.status().get("status") == DONE:
            aside = set_aside(directory.path, outputs)
            self.tell(f"The earlier run is kept in {aside}")
            directory.release(moved_to=aside)
            self.fresh = True
            directory.acquire(who)
        self.locked, self.before = True, directory.status()
        if self.fresh and (other := run_with_other_weights(path, who)):
            self.tell(f"llm.weights: the file is not the one that {other} began with, so this is another run")
        return directory if self.before.get("status") == DONE else None

    def _train(self) -> None:
        """Runs the method. Raises ConfigError before anything is trained."""
        from llmrl import context  # torch: not for a run that is finished
        from llmrl.llm.live import Live
        from llmrl.runs.console import TrainingProgress

        config, directory = self.config, self.directory
        check_here(config, self.method)
        asks = "llm" in self.method.reads(config.method)
        steps = config.budget.env_steps
        if (starts := getattr(config.agent, "learning_starts", 0)) >= steps:
            self.tell(f"agent.learning_starts={starts:,} and only {steps:,} env_steps: no update is made")
        with self.stop.installed():
            self._note_start()
            self.log = RunLog(directory.path, *mirrors_of(config.log, directory.path, self.tell))
            display, enabled = self.progress or TrainingProgress, config.log.progress
            with display(config.budget.length, config.budget.unit, enabled=enabled) as progress:
                report, live = StatusReport(directory, progress), Live(progress.say)
                self.report = report
                live.follow(directory / "llm.jsonl", own=True)

                def set_status(status: str, **facts: Any) -> None:
                    directory.set_status(status, **facts)
                    if status == WAITING:
                        live.follow(Path(facts["waiting_for"]) / "llm.jsonl", own=False)

                ctx = context.RunContext(config, directory.path, self.stop, self.log, report, set_status, self.together)
                with live if config.log.llm else nullcontext(), closing(ctx):
                    result = self.method.run(ctx)
        if asks and "llm" not in result:
            result["llm"] = {"model": config.llm.model, **ctx.llm.usage()}
        self.log.flush()
        write_json(directory / "result.json", result)
        directory.set_status(DONE, env_steps=result["env_steps"], updates=result["updates"])

    def _note_start(self) -> None:
        config, directory = self.config, self.directory
        directory.set_status(RUNNING, **{f"target_{config.budget.unit}": config.budget.length})
        write_json(directory / "config.json", self.node)
        machine = {"device": config.compute.device, "threads": config.compute.threads} | processor()
        changed = directory.record_start(machine)
        if changed and (directory / "checkpoint").exists():
            self.tell(f"The run goes on under other conditions, which may change bits: {', '.join(changed)}")
        (directory / "error.txt").unlink(missing_ok=True)

    def _after_done(self) -> None:
        """Drops the checkpoint (only now: who is killed before DONE goes on from it) and draws the curve. The run is
        finished, whatever goes wrong here."""
        from llmrl.report.figures.run_curve import draw_curve
        from llmrl.runs.checkpoint import Checkpoints

        path = self.directory.path
        steps = {"checkpoint": Checkpoints(path / "checkpoint").drop, "learning curve": lambda: draw_curve(path)}
        for what, step in steps.items():
            try:
                step()
            except Exception as error:
                self.tell(f"The run is done; its {what} made trouble: {type(error).__name__}: {error}")

    # --- other ends than DONE -----------------------------------------------------------------------------------------

    def ended_by(self, error: BaseException) -> RunResult:
        """Writes down and tells how the run ended. Raises what is no end of a run."""
        match error:
            case ConfigError():
                return self._refused(error)
            case RunAlive() | TakenOver():
                return self._ended(RUNNING, TRY_LATER, str(error))
            case IdentityClash():
                return self._ended(REFUSED, TRY_LATER, str(error))
            case Stopped():
                counts = self.report.counts if self.report else {}
                self.directory.set_status(INTERRUPTED, reason=str(error), **counts)
                text = f"Stopped by {error}; the checkpoint is in {self.path}. The same command goes on."
                self.tell(End(f"\n{text}"))
                self.stop.chain()
                return RunResult(self.path, INTERRUPTED, 128 + error.signum, message=text)
            case Paused() if not self.named:  # weights on a hub that cannot be reached, say
                return self._ended(REFUSED, TRY_LATER, str(error))
            case Paused():
                status, code = (PAUSED, TRY_LATER) if error.later else (FAILED, BAD_INPUT)
                self.directory.set_status(status, reason=str(error))
                return self._ended(status, code, str(error))
            case ChildEnded() if error.code >= 128:
                self.directory.set_status(INTERRUPTED, reason=str(error))
                return self._ended(INTERRUPTED, error.code, f"{error}. The same command goes on.")
            case OSError() if not self.locked and not _out_of_space(error):  # it may not be read or written
                remove_empty(self.above)
                what = f"compute.outputs: {error.filename or self.path}: {error.strerror}"
                return self._ended(REFUSED, BAD_INPUT, f"{what}. Choose a directory that may be written.")
            case OSError() if not self.named:
                return self._ended(FAILED, FAILURE, f"{type(error).__name__}: {error}")
            case _ if not self.named:
                raise error
            case _:
                return self._failed(error)

    def _ended(self, status: str, code: int, message: str) -> RunResult:
        self.tell(End(message))
        return RunResult(self.path, status, code, message=message)

    def _refused(self, error: ConfigError) -> RunResult:
        """Where nothing was trained, nothing is left."""
        self._close_log()
        if not self.locked:
            return self._ended(REFUSED, BAD_INPUT, str(error))
        if not self.place and self.fresh and not (self.directory / "checkpoint").exists():
            shutil.rmtree(self.directory.path, ignore_errors=True)
            remove_empty(self.above)
            return self._ended(REFUSED, BAD_INPUT, str(error))
        status = FAILED if self.place else self.before.get("status", INTERRUPTED)
        self.directory.set_status(status, reason=str(error))
        return self._ended(status, BAD_INPUT, str(error))

    def _failed(self, error: BaseException) -> RunResult:
        """Writes error.txt and FAILED, as far as the disk allows, and says it in one line."""
        directory, where = self.directory, ""
        text, advice = f"{type(error).__name__}: {error}", "The same command tries again."
        if isinstance(error, DiskError) and _out_of_space(error):
            text = f"The disk with {error.filename} is full ({error.strerror})."
            text += " Nothing before the last checkpoint is lost."
            advice = "Free some space, then the same command goes on."
        with suppress(OSError):
            if directory.status().get("status") != DONE:  # a finished run that cannot be set aside, say
                write_text(directory / "error.txt", "".join(traceback.format_exception(error)))
                directory.set_status(FAILED, reason=text)
                where = f" Details: {directory / 'error.txt'}."
        return self._ended(FAILED, FAILURE, f"Failed. {text}{where} {advice}")


def _out_of_space(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class StatusReport:
    """Tells the progress display where training stands, and now and then status.json."""

    EVERY_S = 10.0

    def __init__(self, directory: RunDirectory, progress: Any) -> None:
        self._directory, self._progress, self._at = directory, progress, 0.0
        self.counts: dict[str, int] = {}  # where training stands

    def __call__(self, clock: Clock, facts: dict) -> None:
        self.counts = {"env_steps": clock.env_steps, "updates": clock.updates}
        if time.monotonic() - self._at > self.EVERY_S:
            self._at = time.monotonic()
            self._directory.set_status(RUNNING, **self.counts)
        self._progress(clock, facts)

    def waiting(self, text: str, failed: bool) -> None:
        """Tells both what training waits for."""
        if time.monotonic() - self._at > self.EVERY_S:
            self._at = time.monotonic()
            self._directory.set_status(RUNNING, waiting_for=text)
        self._progress.waiting(text, failed)
