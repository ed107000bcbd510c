"""What a person sees while a run trains, and what it came to in the end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from llmrl.contracts.explorer import Clock
from llmrl.intervals import mean_and_interval, over_episodes, share_and_interval
from llmrl.runs.files import read_jsonl

LINE_EVERY_S = 15.0  # between lines where the output is no terminal


class TrainingProgress:
    """A bar on a terminal, a line now and then elsewhere; silent when told so. Warnings are always printed."""

    def __init__(self, length: int, unit: str = "env_steps", *, enabled: bool) -> None:
        self._total, self._unit = length, unit  # env_steps, or updates of offline training
        self._enabled = enabled
        self._facts: dict[str, Any] = {}
        self._line_at = self._waiting_at = 0.0
        self._speed: tuple[float, int | None, float] = (time.monotonic(), None, 0.0)
        self._console = Console(file=sys.stderr, highlight=False)  # a file, so that rich asks what it can encode
        self._bar: Progress | None = None

    def __enter__(self) -> "TrainingProgress":
        if self._enabled and self._console.is_terminal:
            with self._not_the_run():
                self._begin_bar()
        return self

    def _begin_bar(self) -> None:
        told = TextColumn(self._unit + " · {task.fields[facts]}", markup=False)
        columns = (BarColumn(None), MofNCompleteColumn(), told, TimeElapsedColumn(), TextColumn("<"),
                   TimeRemainingColumn())  # fmt: skip
        bar = Progress(*columns, console=self._console, refresh_per_second=4, speed_estimate_period=60)
        self._task = bar.add_task("", total=self._total, facts="")
        bar.start()
        self._bar = bar

    def __exit__(self, *_: object) -> None:
        if self._bar:
            with self._not_the_run():
                self._bar.stop()

    def __call__(self, clock: Clock, facts: dict[str, Any]) -> None:
        """Shows where training stands. `facts` are remembered until they are told anew; "warning" is printed."""
        with self._not_the_run():
            self._show(clock, facts)

    @contextmanager
    def _not_the_run(self) -> Iterator[None]:
        """A display that breaks (by a fact that cannot be shown, say) is left behind, and the run goes on."""
        try:
            yield
        except Exception as error:
            self._enabled = False
            print(f"log.progress: the display stopped ({type(error).__name__}: {error})", file=sys.stderr)

    def _show(self, clock: Clock, facts: dict[str, Any]) -> None:
        if warning := facts.pop("warning", None):
            self._console.print(warning, style="yellow", markup=False, soft_wrap=True)
        self._facts |= facts
        if not self._enabled:
            return
        steps = getattr(clock, self._unit)
        told = f"{self._per_second(steps):,.0f}/s · " + " · ".join(
            f"{name.replace('_', ' ')} {f'{value:,.4g}' if isinstance(value, Real) else value}"
            for name, value in self._facts.items()
        )
        if self._bar:
            self._bar.update(self._task, completed=steps, facts=told)
        elif time.monotonic() - self._line_at > LINE_EVERY_S or steps >= self._total:
            self._line_at = time.monotonic()
            print(f"{steps:>9,}/{self._total:,} {self._unit} · {told}", file=sys.stderr, flush=True)

    def waiting(self, text: str, failed: bool) -> None:
        """Shows what training waits for, until it goes on; a line for each try that failed, else now and then."""
        if self._bar:
            self._bar.update(self._task, facts=text)
        elif self._enabled and (failed or time.monotonic() - self._waiting_at > LINE_EVERY_S):
            self._waiting_at = time.monotonic()
            print(text, file=sys.stderr, flush=True)

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
    """The short result of a finished run: returns against the random policy, LLM use, where the files are."""
    evals = read_jsonl(directory / "eval.jsonl")
    random = next((r for r in evals if r["policy"] == "random"), None)
    last = next((r for r in reversed(evals) if r["policy"] == "greedy"), None)
    lines = []
    if last:
        offline = not last["env_steps"] and last["updates"]
        at = f"{last['updates']:,} updates" if offline else f"{last['env_steps']:,} env_steps"
        told = f"{len(last['returns'])} greedy episodes at {at}; {over_episodes(len(last['returns']))}"
        lines.append(("evaluation return", f"{mean_and_interval(last['returns'])}   ({told})"))
    if random:
        told = f"{len(random['returns'])} episodes, the same cases"
        lines.append(("random policy", f"{mean_and_interval(random['returns'])}   ({told})"))
    for rule, reached in (last or {}).items():
        if rule.startswith("success"):
            lines.append((rule.replace("_", ", "), f"{share_and_interval(reached)}   (share of these episodes)"))
    if llm := result.get("llm"):
        failures = _failures(llm, result.get("llm_explorer", {}))
        unknown = llm.get("calls_without_price")
        usd = f"USD unknown ({unknown:,} calls without a known price)" if unknown else f"{llm['usd']:.4f} USD"
        lines.append(("LLM", f"{llm['calls']:,} calls of {llm['model']}, {usd}{failures}"))
    if found := result.get("lesr"):
        lines.append(("search", _search(found)))
    counts = f"{result['env_steps']:,} env_steps, {result['updates']:,} updates, {result['episodes']:,} episodes"
    lines.append(("training", counts))
    lines.append(("files", f"{directory}/"))
    if (curve := directory / "plots" / "curve.png").exists():
        lines.append(("learning curve", str(curve)))
    print(title)
    for name, text in lines:
        print(f"  {name:<18} {text}")


def _search(found: dict) -> str:
    """What LESR's search tried, rejected and chose."""
    rejected = ", ".join(f"{name} {n}x" for name, n in found["rejected"].items()) or "none"
    failed = sum(bool(c["failed"]) for c in found["candidates"])
    where = f", {found['search_env_steps']:,} env_steps in {found['search']}" if "search" in found else ""
    return (
        f"{len(found['candidates'])} programs trained ({failed} failed), rejected: {rejected}; chosen: "
        f"{found['chosen']}, {found['features']} features{where}"
    )


def _failures(llm: dict, method: dict) -> str:
    """What went wrong with the LLM, by reason: attempts without an answer, answers that could not be used."""
    parts = [f"{name} {n}x" for name, n in {**llm.get("failures", {}), **method.get("rejected", {})}.items()]
    if failed := method.get("failed_refreshes"):
        parts.append(f"{failed} of {method['refreshes']} refreshes without a usable answer")
    return " · failures: " + ", ".join(parts) if parts else ""
