"""What is shown while a grid is made: which runs go on and how far they are, what is done, what failed, hours left.

On a terminal it is a display that moves, elsewhere a line for each begin and end, and now and then one in between.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from llmrl.report.plan.executor import Ended, Job, Part
from llmrl.report.store.files import steps_per_s
from llmrl.runs.files import read_json
from llmrl.runs.identity import DONE
from llmrl.runs.sweep_progress import duration

LINE_EVERY_S, READ_EVERY_S = 15.0, 3.0


class GridProgress:
    """The display of the jobs that `executor.execute` carries out, which it tells of each begin, end and second."""

    def __init__(self, jobs: Sequence[Job], parallel: int) -> None:
        self._jobs, self._parallel = jobs, parallel
        self._began: dict[Job, float] = {}
        self._ended: dict[Job, Ended] = {}
        self._steps: dict[Path, int] = {}  # how far each run is
        self._rates: dict[Path, float] = {}  # steps/s, as measured
        self._read_at = self._line_at = time.monotonic()
        terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self._live = Live(console=Console(file=sys.stdout, highlight=False), auto_refresh=False,
                          transient=True) if terminal else None  # fmt: skip

    def __enter__(self) -> "GridProgress":
        self._read(part for job in self._jobs for part in job.parts)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begun(self, job: Job) -> None:
        self._began[job] = time.monotonic()
        if self._live is None:
            print(f"begun ({len(self._began)} of {len(self._jobs)}): {job.name}", flush=True)
        self.tick()

    def ended(self, ended: Ended) -> None:
        self._ended[ended.job] = ended
        self._read(ended.job.parts)
        took = duration(time.monotonic() - self._began[ended.job])
        print(f"{ended.outcome}: {ended.job.name} ({took})", flush=True)
        if ended.outcome not in ("done", "stopped"):
            print(f"    {ended.last_line}", flush=True)

    def tick(self) -> None:
        """Shows where all of it stands, as often as the output wants that."""
        now = time.monotonic()
        if now - self._read_at >= READ_EVERY_S:
            self._read_at = now
            self._read(part for job in self._running() for part in job.parts)
        if self._live:
            lines = [self._line(part, now - self._began[job]) for job in self._running() for part in job.parts]
            self._live.update(Group(*(Text(f"  {line}") for line in lines), Text(self.summary())), refresh=True)
        elif now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            going = "; ".join(self._line(part) for job in self._running() for part in job.parts)
            print(f"{self.summary()}{f' ({going})' * bool(going)}", flush=True)

    def summary(self) -> str:
        """3 of 18 done, 1 failed, 2 running, 12 to come; 1.9 h left"""
        outcomes = Counter(end.outcome for end in self._ended.values())
        done = outcomes.pop("done", 0)
        parts = [f"{done} of {len(self._jobs)} done", *(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))]
        parts += [f"{n} {what}" for what, n in (("running", len(self._began) - len(self._ended)),
                                                ("to come", len(self._jobs) - len(self._began))) if n]  # fmt: skip
        return f"{', '.join(parts)}; {self.left()}"

    def left(self) -> str:
        """How long the rest takes: measured speeds, those of other runs of the kind, or the forecast."""
        seconds = [self._seconds(job) for job in self._jobs if job not in self._ended]
        known = [one for one in seconds if one is not None]
        if not known:
            return "time left: not known yet" if seconds else "nothing is left"
        total = max(sum(known) / min(self._parallel, len(seconds)), *known)
        unknown = len(seconds) - len(known)
        return f"{duration(total)} left" + f", not known of {unknown}" * bool(unknown)

    def _seconds(self, job: Job) -> float | None:
        """What is left of a job."""
        times = []
        for part in job.parts:
            rate = self._rate(part)
            times.append((part.length - self._steps.get(part.path, 0)) / rate if rate else None)
        known = [one for one in times if one is not None]
        return max(known) if known and len(known) == len(times) else None  # several in one process are stacked

    def _rate(self, part: Part) -> float | None:
        if part.path in self._rates:
            return self._rates[part.path]
        alike = [self._rates[other.path] for job in self._jobs for other in job.parts
                 if part.kind and other.kind == part.kind and other.path in self._rates]  # fmt: skip
        return sum(alike) / len(alike) if alike else part.rate

    def _line(self, part: Part, elapsed: float | None = None) -> str:
        text = f"{part.name}: {self._steps.get(part.path, 0):,} of {part.length:,} {part.unit}"
        return text if elapsed is None else f"{text}, {duration(elapsed)}"

    def _running(self) -> list[Job]:
        return [job for job in self._began if job not in self._ended]

    def _read(self, parts: Iterator[Part] | Sequence[Part]) -> None:
        """How far the runs are, and how fast, as their directories say."""
        for part in parts:
            try:
                status = read_json(part.path / "status.json")
            except (OSError, ValueError):
                continue
            steps = status.get(part.unit)
            if isinstance(steps, int):
                self._steps[part.path] = part.length if status.get("status") == DONE else min(steps, part.length)
            if rate := steps_per_s(part.path / "timing.jsonl"):
                self._rates[part.path] = rate
