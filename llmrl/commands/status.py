"""llmrl status [directory] [--json] [--watch]

A table of all runs below a directory (default: outputs/): status, latest greedy evaluation, calls of its LLM, failed
attempts and answers, cost, hours left at its own speed, and the time since it last wrote something. * marks studies
that mix versions of the code.

  --json     the same as a list of objects
  --watch    again every ten seconds, until ctrl-C

Of runs that were submitted to a cluster the queue is asked as well (docs/clusters.md): QUEUED, and what for; LOST: in
no queue any more, and why; SPECIAL_EXIT: held until the same submission is made again.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmrl.commands.columns import columns
from llmrl.runs.files import read_json
from llmrl.runs.identity import RunDirectory, code_name, unit_of, unit_suffix
from llmrl.runs.processor import processor_name

DAMAGED, NO_STATUS = "DAMAGED", "NO STATUS"
MARKS_OF_A_RUN = {"status.json", "config.json", "identity.json"}
TAIL = 1 << 16  # bytes
WATCH_S = 10.0


@dataclass
class Row:
    """A run's line."""

    path: Path
    status: str
    reason: str
    unit: str
    steps: int | None
    target_steps: int | None
    last_return: float | None
    calls: int | None
    failures: int | None  # attempts that brought no answer, and answers that could not be used
    usd: float | str | None  # "unknown" where a call has no known price
    updated: str
    left_s: float | None  # seconds to its end, at its own speed, while it runs
    code: tuple[str, ...]  # the versions that have worked on it
    processors: tuple[str, ...] = ()  # that it was made on

    @property
    def names(self) -> tuple[str, ...]:
        """study, method-agent, env, s<seed>-<id>: a run's path says them, even where its files are damaged."""
        return (*[""] * 4, *self.path.resolve().parts)[-4:]


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser("llmrl status", add_help=False)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("outputs"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", action="store_true")
    given = parser.parse_args(args)
    root = given.directory
    if not root.is_dir():
        print(f"llmrl status: there is no directory {root}. Runs are kept in outputs/, or where compute.outputs says.",
              file=sys.stderr)  # fmt: skip
        return 2
    while True:
        rows = rows_below(root)
        if given.watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        if given.json:
            print(json.dumps([asdict(row) | {"path": str(row.path)} for row in rows], indent=2))
        else:
            print(table(rows) if rows else f"No run below {root}/ yet.", flush=True)
        if not given.watch:
            return 0
        time.sleep(WATCH_S)


def rows_below(root: Path) -> list["Row"]:
    """A row for each run, with what the clusters' queues say of them."""
    paths = list(run_directories(root))
    submitted = [status for path in paths if (status := _status_of(path)[0]).get("job")]
    if submitted:
        from llmrl.clusters.standing import queues
    asked = queues(submitted) if submitted else {}
    return [row_of(path, asked) for path in paths]


def run_directories(root: Path) -> Iterator[Path]:
    """Every run at or below `root`, sorted; .replaced/, .sweeps/ and whatever else begins with a dot is left out."""
    for folder, below, files in os.walk(root):
        if MARKS_OF_A_RUN & set(files):
            below.clear()
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _status_of(path: Path) -> tuple[dict[str, Any], str]:
    """(status.json, what is wrong with it)"""
    try:
        if status := RunDirectory(path).status():
            return status, ""
        return {}, "status.json cannot be read" if (path / "status.json").exists() else ""
    except (OSError, KeyError, AttributeError) as error:
        return {}, f"status.json: {error}"


def row_of(path: Path, asked: dict[str, Any] | None = None) -> Row:
    """Reads what little of a run the table needs. A damaged file is named as such. `asked`: the clusters' queues."""
    status, problem = _status_of(path)
    if status.get("job"):
        from llmrl.clusters.standing import standing

        name, reason = standing(status, asked or {})
    elif status:
        name, reason = str(status["status"]), str(status.get("reason") or status.get("waiting_for") or "")
    else:
        name, reason = (DAMAGED, problem) if problem else (NO_STATUS, "")
    last = last_greedy(path / "eval.jsonl")
    calls, failures, usd = _llm(path, finished=name == "DONE")
    unit = unit_of(status)
    steps = max((s for s in (status.get(unit), last.get(unit)) if isinstance(s, int)), default=None)
    target = status.get(f"target_{unit}")
    left_s = _left_s(path, steps, target) if name == "RUNNING" else None
    return Row(
        path, name, reason, unit, steps, target, last.get("return_mean"), calls, failures, usd,
        str(status.get("updated", "")), left_s, *_made_with(path),
    )  # fmt: skip


def _left_s(path: Path, steps: Any, target: Any) -> float | None:
    from llmrl.report.store.files import steps_per_s

    rate = steps_per_s(path / "timing.jsonl")
    return (target - steps) / rate if rate and isinstance(steps, int) and isinstance(target, int) else None


def last_greedy(file: Path) -> dict[str, Any]:
    """The last greedy row of an eval.jsonl, found from its end; {} where there is none."""
    try:
        size = file.stat().st_size
    except OSError:
        return {}
    tail = TAIL
    while True:
        with open(file, "rb") as lines:
            lines.seek(max(0, size - tail))
            found = lines.read().split(b"\n")
        for line in reversed(found if tail >= size else found[1:]):
            try:
                row = json.loads(line)
                if row["policy"] == "greedy":
                    return row
            except (ValueError, KeyError, TypeError):
                continue  # empty, or torn by a kill
        if tail >= size:
            return {}
        tail *= 4


def _llm(path: Path, *, finished: bool) -> tuple[int | None, int | None, float | str | None]:
    """Calls, failures and dollars so far; None where no LLM is asked."""
    try:
        if finished:
            usage = read_json(path / "result.json").get("llm")
        elif (path / "llm.jsonl").exists():
            from llmrl.llm.transcript import Transcript

            usage = Transcript(path / "llm.jsonl", read_only=True).usage()
        else:
            usage = None
        if not usage:
            return None, None, None
        failed = [*usage.get("failures", {}).values(), *usage.get("rejected", {}).values()]
        return usage["calls"], sum(failed), "unknown" if usage.get("calls_without_price") else usage["usd"]
    except Exception:  # noqa: BLE001 (whatever is wrong in a file, a table of all runs has to come)
        return None, None, None


def _made_with(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes and the processors of its starts."""
    try:
        starts = read_json(path / "versions.json")["starts"]
        codes = tuple(dict.fromkeys(code_name(start["code"]) for start in starts))
        return codes, tuple(dict.fromkeys(name for start in starts if (name := processor_name(start))))
    except (OSError, ValueError, KeyError, TypeError):
        return (), ()


def table(rows: list[Row]) -> str:
    """The rows, counts by status, and the studies that mix versions of the code or processors."""
    versions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        versions[row.names[0]].update(row.code)
    head = ("study", "method-agent", "env", "run", "status", "env_steps", "of", "return", "calls", "failed", "usd",
            "left", "age", "code")  # fmt: skip
    cells = [_cells(row, versions[row.names[0]]) for row in rows]
    right = range(5, 13)
    counts = Counter(row.status for row in rows)
    lines = [columns([head, *cells], right=tuple(right), indent=""), ""]
    lines.append(f"{len(rows)} runs: " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    for row in rows:
        if row.reason and row.status != "DONE":
            lines.append(f"{row.path}: {row.status}, {row.reason.splitlines()[0]}")
    for study, found in sorted(versions.items()):
        if len(found) > 1:
            counts_of_code = ", ".join(f"{code} ({n} runs)" for code, n in found.most_common())
            lines.append(f"* {study}: runs of different code: {counts_of_code}")
    for study in sorted(versions):
        made_on = Counter(one for row in rows if row.names[0] == study for one in row.processors)
        if len(made_on) > 1:
            counts_of_cpu = ", ".join(f"{name} ({n} runs)" for name, n in made_on.most_common())
            lines.append(f"{study}: runs of different processors: {counts_of_cpu}")
    return "\n".join(lines)


def _cells(row: Row, versions: Counter[str]) -> tuple[str, ...]:
    mixed = "*" if len(versions) > 1 else ""
    return (
        *row.names, row.status, _number(row.steps), _number(row.target_steps, row.unit),
        "" if row.last_return is None else f"{row.last_return:,.1f}", _number(row.calls),
        _number(row.failures), _dollars(row.usd), _duration(row.left_s), age(row.updated),
        (row.code[-1] if row.code else "") + mixed,
    )  # fmt: skip


def _dollars(usd: float | str | None) -> str:
    if usd is None or isinstance(usd, str):
        return usd or ""
    return f"{usd:.2f}" if usd == 0 or usd >= 0.005 else f"{usd:.2g}"


def _number(value: Any, unit: str = "env_steps") -> str:
    return f"{value:,}{unit_suffix(unit)}" if isinstance(value, int) else ""


def age(updated: str) -> str:
    """How long ago a time stamp was: 40 s, 12 min, 3 h, 5 d."""
    try:
        seconds = (datetime.now(UTC) - datetime.strptime(updated, "%Y-%m-%dT%H:%M:%S%z")).total_seconds()
    except ValueError:
        return ""
    return _duration(max(seconds, 0))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
