"""What the console shows while a run trains, and its result at the end."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from llmrl.checks import raised
from llmrl.contracts.explorer import Clock
from llmrl.contracts.report import times
from llmrl.intervals import mean_and_interval, over_episodes, share_and_interval
from llmrl.papers import reports
from llmrl.runs.files import read_jsonl

LINE_EVERY_S = 15.0  # between lines where the output is no terminal
BAR, TIMES = 16, 22  # characters: of a bar; of both times and what stands between all columns


class Facts(ProgressColumn):
    """What is known of the training, cut to what a narrow terminal leaves beside the other columns."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        name, total = len(task.description), f"{int(task.total or 0)}"
        room = self._console.width - BAR - TIMES - 2 * len(total) - (name + 1 if name else 0)
        text = f"{task.fields['unit']} · {task.fields['facts']}"
        return Text(text if len(text) <= room else f"{text[: max(room - 1, 0)]}…", no_wrap=True)


class Display:
    """The bars of the runs in this process: rich shows one display at a time, with any number of bars."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr, highlight=False)  # a file, so that rich asks what it can encode
        self.lock = threading.Lock()  # also of who prints beside it
        self._bars: Progress | None = None
        self._running = 0

    def begin(self, name: str, unit: str, total: int) -> Callable[..., None]:
        """A new bar, to be ended with `end`. Returns what updates it."""
        with self.lock:
            if self._bars is None:
                columns = (BarColumn(BAR), MofNCompleteColumn(), Facts(self.console), TimeElapsedColumn(),
                           TextColumn("<"), TimeRemainingColumn())  # fmt: skip
                names = [TextColumn("{task.description}", markup=False)] if name else []
                bars = Progress(*names, *columns, console=self.console, refresh_per_second=4, speed_estimate_period=60)
                bars.start()
                self._bars = bars
            self._running += 1
            return partial(self._bars.update, self._bars.add_task(name.rstrip(": "), total=total, unit=unit, facts=""))

    def end(self) -> None:
        """The last one of them takes the display away."""
        with self.lock:
            self._running -= 1
            if self._bars is not None and not self._running:
                bars, self._bars = self._bars, None
                bars.stop()


class TrainingProgress:
    """A bar on a terminal, a line now and then elsewhere; nothing where disabled. Warnings are always printed."""

    def __init__(
        self, length: int, unit: str = "env_steps", *, enabled: bool, name: str = "", display: Display | None = None
    ) -> None:
        """`name` and `display`: of a run beside others, see runs/stacked.py."""
        self._total, self._unit = length, unit  # env_steps, or updates of offline training
        self._enabled, self._name = enabled, name
        self._facts: dict[str, Any] = {}
        self._line_at = self._waiting_at = 0.0
        self._speed: tuple[float, int | None, float] = (time.monotonic(), None, 0.0)
        self._display = display or Display()
        self._bar: Callable[..., None] | None = None

    def __enter__(self) -> "TrainingProgress":
        if self._enabled and self._display.console.is_terminal:
            with self._not_the_run():
                self._bar = self._display.begin(self._name, self._unit, self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            with self._not_the_run():
                self._display.end()

    def __call__(self, clock: Clock, facts: dict[str, Any]) -> None:
        """Shows where training stands. A fact stays until it is given anew; "warning" is printed."""
        with self._not_the_run():
            self._show(clock, facts)

    @contextmanager
    def _not_the_run(self) -> Iterator[None]:
        """A display that breaks (by a fact that it cannot format, say) ends, and the run goes on."""
        try:
            yield
        except Exception as error:
            self._enabled = False
            self._say(f"log.progress: the display stopped ({type(error).__name__}: {error})")

    def _show(self, clock: Clock, facts: dict[str, Any]) -> None:
        if warning := facts.pop("warning", None):
            self._display.console.print(f"{self._name}{warning}", style="yellow", markup=False, soft_wrap=True)
        self._facts |= facts
        if not self._enabled:
            return
        steps = getattr(clock, self._unit)
        text = f"{self._per_second(steps):,.0f}/s · " + " · ".join(
            f"{name.replace('_', ' ')} {f'{value:,.4g}' if isinstance(value, Real) else value}"
            for name, value in self._facts.items()
        )
        if self._bar:
            self._bar(completed=steps, facts=text)
        elif time.monotonic() - self._line_at > LINE_EVERY_S or steps >= self._total:
            self._line_at = time.monotonic()
            self._say(f"{steps:>9,}/{self._total:,} {self._unit} · {text}")

    def say(self, text: str) -> None:
        """Prints a text above the bar, from any thread."""
        with self._not_the_run():
            self._display.console.print(f"{self._name}{text}", markup=False, soft_wrap=True)

    def waiting(self, text: str, failed: bool) -> None:
        """Shows what training waits for, until it goes on; a line for each try that failed, else now and then."""
        if self._bar:
            self._bar(facts=text)
        elif self._enabled and (failed or time.monotonic() - self._waiting_at > LINE_EVERY_S):
            self._waiting_at = time.monotonic()
            self._say(text)

    def _say(self, text: str) -> None:
        """A line, in one piece: other runs' threads write as well."""
        print(f"{self._name}{text}\n", end="", file=sys.stderr, flush=True)

    def _per_second(self, steps: int) -> float:
        now = time.monotonic()
        then, before, speed = self._speed
        if before is None:
            self._speed = (now, steps, 0.0)
        elif now - then > 1.0:
            speed = (steps - before) / (now - then)
            self._speed = (now, steps, speed)
        return speed


def print_result(directory: Path, result: dict[str, Any], *, title: str) -> None:
    """The short result of a finished run: returns, LLM use, what its paper adds, counts, files."""
    summaries, failures, problems = _of_papers(result)
    counts = f"{result['env_steps']:,} env_steps, {result['updates']:,} updates, {result['episodes']:,} episodes"
    lines = [*_evaluations(read_jsonl(directory / "eval.jsonl")), *_llm(result.get("llm"), failures), *summaries]
    lines += [("training", counts), ("files", f"{directory}/")]
    if (curve := directory / "plots" / "curve.png").exists():
        lines.append(("learning curve", str(curve)))
    print(title)
    for name, text in lines + [("note", problem) for problem in problems]:
        print(f"  {name:<18} {text}")


def _evaluations(evals: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The last greedy evaluation, the random policy, and the rates of success."""
    random = next((r for r in evals if r["policy"] == "random"), None)
    last = next((r for r in reversed(evals) if r["policy"] == "greedy"), None)
    if last:
        offline = not last["env_steps"] and last["updates"]
        at = f"{last['updates']:,} updates" if offline else f"{last['env_steps']:,} env_steps"
        text = f"{len(last['returns'])} greedy episodes at {at}; {over_episodes(len(last['returns']))}"
        yield "evaluation return", f"{mean_and_interval(last['returns'])}   ({text})"
    if random:
        text = f"{len(random['returns'])} episodes, the same cases"
        yield "random policy", f"{mean_and_interval(random['returns'])}   ({text})"
    for rule in (key for key in last or {} if key.startswith("success")):
        yield rule.replace("_", ", "), f"{share_and_interval((last or {})[rule])}   (share of these episodes)"


def _llm(usage: dict[str, Any] | None, failures: list[str]) -> Iterator[tuple[str, str]]:
    """Calls, dollars, and what went wrong: attempts without an answer, unusable answers, the paper's own failures."""
    if not usage:
        return
    unknown = usage.get("calls_without_price")
    usd = f"USD unknown ({unknown:,} calls without a known price)" if unknown else f"{usage['usd']:.4f} USD"
    failed = [*times(usage.get("failures", {})), *times(usage.get("rejected", {})), *failures]
    yield (
        "LLM",
        f"{usage['calls']:,} calls of {usage['model']}, {usd}"
        + (" · failures: " + ", ".join(failed) if failed else ""),
    )


def _of_papers(result: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """What the papers' reports say of the run: lines, failures, and the problems of reports that cannot be used."""
    found, problems = reports()
    lines: list[tuple[str, str]] = []
    failures: list[str] = []
    for paper, report in found.items():
        try:
            lines += report.summary(result)
            failures += report.failures(result)
        except Exception as error:  # noqa: BLE001 (it may be anybody's code)
            problems.append(f"the report of {paper} failed: {raised(error)}")
    return lines, failures, problems
