"""What the rest of a grid will cost, from runs of the same kind that this machine has made."""

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrl.report.grid import DONE_RUN, RUNNING_RUN, Wanted, identity_of, standing
from llmrl.report.store import RunRecord
from llmrl.runs.files import read_json


@dataclass
class Forecast:
    """env_steps (offline: updates) that are left, hours of one process after the other, dollars; None where no run
    tells."""

    wanted: Sequence[Wanted]
    found: Mapping[tuple[int, str], RunRecord]
    records: Sequence[RunRecord]
    shared: Mapping[str, int] = field(default_factory=dict)  # unit -> how many are left of what the runs share

    def __post_init__(self) -> None:
        self.records = [r for r in self.records if not r.damaged and r.steps]
        self.left = {run: steps for run in self.wanted if (steps := self._left(run))}

    def _left(self, run: Wanted) -> int:
        record = self.found.get(run.key)
        if standing(record) in (DONE_RUN, RUNNING_RUN):
            return 0
        return run.steps - (record.steps if record and not record.damaged else 0)

    def told(self) -> str:
        """The forecast in words; what is not known is named, not guessed."""
        if not self.left and not self.shared:
            return "Nothing is left to run."
        hours = self._sum(self.seconds_per_step, "h", 3600)
        dollars = self._sum(self.usd_per_step, "usd", 1)
        own: Counter[str] = Counter()
        for run, steps in self.left.items():
            own[run.unit] += steps
        shared = f", and {_told(self.shared)} of what they share" if self.shared else ""
        return (
            f"Left: {_told(own)} in {len(self.left)} runs{shared}.\n"
            f"Time: {hours} (of one process; from the throughput of runs like these on this machine).\n"
            f"LLM:  {dollars} (from runs with the same language model)."
        )

    def _sum(self, per_step: Callable[[Wanted], float | None], unit: str, scale: float) -> str:
        known = {run: rate for run in self.left if (rate := per_step(run)) is not None}
        unknown = len(self.left) - len(known)
        if not known:
            return "unknown"
        total = sum(rate * self.left[run] for run, rate in known.items()) / scale
        return f"{total:,.2f} {unit}" + (f" and unknown for {unknown} of the runs" if unknown else "")

    def seconds_per_step(self, run: Wanted) -> float | None:
        """Of runs with the same method, agent (all its values) and suite; of the same task where there are such."""
        alike = [r for r in self.records if r.steps_per_s and self._alike(r, run)]
        near = [r for r in alike if r.env == run.names["env"]] or alike
        return _mean(1 / r.steps_per_s for r in near)

    def _alike(self, record: RunRecord, run: Wanted) -> bool:
        suite = run.names["env"].split("/")[0]
        same = (record.method, record.agent, record.env.split("/")[0], record.unit) == (
            run.names["method"], run.names["agent"], suite, run.unit)  # fmt: skip
        if not same or any(identity_of(record).get(k) != run.identity.get(k) for k in ("agent", "device")):
            return False
        try:
            return read_json(record.path / "status.json").get("host") == socket.gethostname()
        except (OSError, ValueError):
            return False

    def usd_per_step(self, run: Wanted) -> float | None:
        """Of runs with the same model and method's values, on the same task where there are such."""
        if run.llm in (None, "scripted"):
            return 0.0
        asked = [r for r in self.records if r.llm and r.llm["model"] == run.llm and r.method == run.names["method"]
                 and identity_of(r).get("method") == run.identity.get("method")
                 and not r.llm.get("calls_without_price")]  # fmt: skip
        near = [r for r in asked if r.env == run.names["env"]] or asked
        return _mean(r.llm["usd"] / r.steps for r in near)


def _told(amounts: Mapping[str, int]) -> str:
    return " and ".join(f"{n:,} {unit}" for unit, n in sorted(amounts.items())) or "nothing"


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None
