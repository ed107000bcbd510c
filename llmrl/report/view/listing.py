"""The rows of the list of runs, and what of them has changed since someone looked."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmrl.report.figures.style import shortened
from llmrl.report.store import index
from llmrl.report.store.groups import distinguishing, flat
from llmrl.report.store.loading import load
from llmrl.report.store.reading import read_run
from llmrl.report.store.record import RunRecord, dollars, score
from llmrl.report.view.places import contained
from llmrl.runs.files import read_json
from llmrl.runs.identity import RUNNING

Row = dict[str, Any]
SETTINGS, LONGEST = 3, 60  # that are named of a run, and characters of one


class Listing:
    """All runs at and below `root`, and the searches that they share.

    Args:
        outputs: where studies lie, resolved.
        root: outputs or a directory below it, resolved.
    """

    def __init__(self, outputs: Path, root: Path) -> None:
        self.outputs, self.root = outputs, root
        self.version = 0
        self.rows: dict[str, tuple[int, Row]] = {}  # by path below outputs; with the version at which it changed
        self.gone: dict[str, int] = {}
        self.problem = ""  # why the newest look failed; "" where it did not
        self._artifacts: dict[Path, tuple[str, RunRecord]] = {}
        self._differences: dict[Path, str] = {}
        self._askers: dict[Path, str] = {}

    def look(self) -> bool:
        """Reads what has changed; whether anything has. Whatever is wrong with the disk, the older rows stay."""
        try:
            records = [*self._runs(), *self._searches()]
            if self._differences.keys() != {record.path for record in records}:
                own = [record for record in records if contained(record.path, self.outputs)]
                self._differences = dict.fromkeys((r.path for r in records), "") | differences(own)
            found = {row["path"]: row for row in map(self._row, records)}
            problem = ""
        except Exception as error:  # noqa: BLE001 (a directory that cannot be read now may be readable later)
            found, problem = {path: row for path, (_, row) in self.rows.items()}, f"{type(error).__name__}: {error}"
        version = self.version + 1
        changed = {path: (version, row) for path, row in found.items() if self.rows.get(path, (0, None))[1] != row}
        gone = dict.fromkeys(self.rows.keys() - found.keys(), version)
        if not changed and not gone and problem == self.problem and self.version:
            return False
        rows = {path: known for path, known in self.rows.items() if path in found} | changed
        self.gone = {path: at for path, at in self.gone.items() if path not in found} | gone
        self.rows, self.problem, self.version = rows, problem, version
        return True

    def since(self, version: int) -> dict[str, Any]:
        """What has changed after `version`; all rows after 0."""
        return {
            "version": self.version, "problem": self.problem,
            "rows": [row for at, row in self.rows.values() if at > version],
            "gone": [path for path, at in self.gone.items() if at > version > 0],
        }  # fmt: skip

    def _runs(self) -> list[RunRecord]:
        studies = None
        if self.root != self.outputs:
            top = self.root.relative_to(self.outputs).parts[0]
            studies = [str(path.relative_to(self.outputs)) for path in self._studies(self.outputs / top)]
        return [run for run in load(self.outputs, studies=studies) if run.path.is_relative_to(self.root)]

    def _studies(self, top: Path) -> list[Path]:
        """Directories at and below `top` that may be a study: a name may hold a few `/`."""
        return [top, *(p for p in top.glob("*") if p.is_dir()), *(p for p in top.glob("*/*") if p.is_dir())]

    def _searches(self) -> list[RunRecord]:
        """The runs in outputs/artifacts/<kind>/<id>/, which have no index."""
        found: dict[Path, tuple[str, RunRecord]] = {}
        for path in sorted(self.outputs.glob("artifacts/*/*")):
            if not path.is_relative_to(self.root) or not (path / "config.json").is_file() or path.resolve() != path:
                continue
            stamp = index.stamp_of(path)
            known = self._artifacts.get(path)
            found[path] = known if known and known[0] == stamp else (stamp, read_run(path, self.outputs))
        self._artifacts = {
            path: (stamp, run) for path, (stamp, run) in found.items() if index.lasting(run) and index.settled(stamp)
        }
        return [record for _, record in found.values()]

    def _row(self, record: RunRecord) -> Row:
        if not contained(record.path, self.outputs):
            text = f"files of the run are links that lead out of {self.outputs}, and are not shown"
            return unreadable(record, self.outputs, text)
        try:
            row = row_of(record, self.outputs) | {"differs": self._differences.get(record.path, "")}
            return row | {"asked_in": self._asker(record.path)} if row["llm"] else row
        except Exception as error:  # noqa: BLE001 (whatever its files hold, the other runs are shown)
            return unreadable(record, self.outputs, f"{record.path}: {type(error).__name__}: {error}")

    def _asker(self, path: Path) -> str:
        """Whose transcript a run's is: its own, or that of a search, of which it holds a copy."""
        if path not in self._askers and (path / "artifact.json").exists():
            self._askers[path] = str(Path(read_json(path / "artifact.json")["path"]).parent.name)
        return self._askers.get(path, path.name)


def differences(records: Iterable[RunRecord]) -> dict[Path, str]:
    """What tells a run from the others of its method, agent and environment, beside the seed: "method.epsilon=0.2"."""
    families: defaultdict[tuple, dict[Path, dict[str, str]]] = defaultdict(dict)
    found: dict[Path, str] = {}
    for record in records:
        found[record.path] = ""
        if not record.damaged:
            settings = flat({key: value for key, value in record.identity.items() if key != "seed"})
            families[record.method, record.agent, record.env][record.path] = settings
    for runs in families.values():
        for path, own in distinguishing({"": runs}).items():
            more = f" and {len(own) - SETTINGS} more" if len(own) > SETTINGS else ""
            found[path] = " · ".join(shortened(one, LONGEST) for one in own[:SETTINGS]) + more
    return found


def row_of(record: RunRecord, outputs: Path) -> Row:
    """A run as the page lists it: plain values."""
    if record.damaged:
        return unreadable(record, outputs, "; ".join(record.damage))
    steps = max([record.steps, *record.evals.steps[-1:].tolist()])  # status.json is written now and then
    left_s = None
    if record.status == RUNNING and record.steps_per_s and record.target_steps is not None:
        left_s = round(max(0, record.target_steps - steps) / record.steps_per_s)
    return _names(record, outputs) | {
        "status": record.status or "NO STATUS", "reason": (record.reason or "") if record.status != "DONE" else "",
        "unit": record.unit, "steps": steps, "target": record.target_steps, "left_s": left_s,
        "last": score(record, "last"), "best": score(record, "best"), "training": score(record, "train_last_100"),
        "llm": _usage(record.llm) if record.llm else None,
    }  # fmt: skip


def unreadable(record: RunRecord, outputs: Path, why: str) -> Row:
    """The row of a run whose files say nothing that can be trusted."""
    nothing = dict.fromkeys(("target", "left_s", "last", "best", "training", "llm"))
    known = {"status": "DAMAGED", "reason": why, "unit": "env_steps", "steps": 0, "differs": ""}
    return _names(record, outputs) | known | nothing


def _names(record: RunRecord, outputs: Path) -> Row:
    changed = 0.0
    for name in ("status.json", "timing.jsonl"):
        try:
            changed = max(changed, os.stat(record.path / name).st_mtime)
        except OSError:
            continue
    path = record.path.relative_to(outputs)
    return {
        "path": path.as_posix(), "study": record.study or path.parent.as_posix(), "method": record.method,
        "agent": record.agent, "env": record.env, "seed": record.seed, "changed": round(changed),
    }  # fmt: skip


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    failed = sum(usage.get("failures", {}).values())
    return {
        "model": str(usage["model"]), "calls": usage["calls"], "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"], "usd": dollars(usage), "failed": failed,
        "rejected": sum(usage.get("rejected", {}).values()),
    }  # fmt: skip
