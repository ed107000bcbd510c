"""Cells and runs -> a table beside the published numbers: every number with n and interval, or what is missing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmrl.checks import ConfigError
from llmrl.intervals import MIN_N
from llmrl.report import claims, run_files, stats
from llmrl.report.grid import DAMAGED, DONE_RUN, RUNNING_RUN, Cell, Metric, Table, standing
from llmrl.report.groups import mixed
from llmrl.report.published import SEEN, Published, atari_reference, published
from llmrl.report.store import RunRecord, score

MARKS = SCRIPTED, MIXED, OTHER_CPU = "†", "‡", "*"  # of a cell
READ = {
    "digitised": "§",
    "derived": "¶",
    "inferred": "‖",
}  # marks of published numbers
UNITS = {
    "return": "return", "human_normalised": "human-normalised score, %", "usd": "USD", "hours": "h",
    "success": "success rate", "success_authors": "success rate, the authors' rule",
    "success_official": "success rate, the official rule",
    "env_steps_total": "env_steps", "llm_calls": "calls", "prompt_tokens": "tokens", "completion_tokens": "tokens",
    "match": "share of imagined rollouts that reach their goal",
    "outside_workbench": "share of imagined steps that end outside of the workbench",
    "beyond_dynamics": "share of imagined steps that move a ball too far",
}  # fmt: skip
SUCCESS = ("success", "success_authors", "success_official")
IMAGINED = ("match", "outside_workbench", "beyond_dynamics")  # what method=kalm/rollouts says of its rollouts
ONE_SCALE = ("human_normalised", *SUCCESS, *IMAGINED)  # whose differences in several rows have a mean
SCORES = {
    "train_last_100": "the mean of the last 100 training episodes, under exploration",
    "last": "the last greedy evaluation",
    "best": "the best greedy evaluation, chosen on the cases that it is shown on",
    "train_last_tenth": "the mean of the training episodes that ended in the last tenth of training, under exploration",
}
BOOTSTRAP_SEED = 0
BOOTSTRAPPED = "; of medians and IQMs over rows: stratified bootstrap"


@dataclass(frozen=True)
class Score:
    """Which number of a run is shown: train_last_100, last, best, train_last_tenth or mean_last_<k>."""

    kind: str
    k: int = 5

    @classmethod
    def parse(cls, text: str) -> "Score":
        if text in SCORES:
            return cls(text)
        if match := re.fullmatch(r"mean_last_(k|[1-9]\d*)", text):
            return cls("mean_last_k", 5 if match[1] == "k" else int(match[1]))
        raise ConfigError(f"score: there is no `{text}`. There are: {', '.join(SCORES)}, mean_last_<k> (mean_last_5).")

    def told(self) -> str:
        return SCORES.get(self.kind, f"the mean of the last {self.k} greedy evaluations")


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown. Where `missing` says something, there is no number of ours."""

    row: str
    column: str
    metric: Metric
    ours: stats.Estimate | None = None
    n: int = 0
    greedy: stats.Estimate | None = None
    last_tenth: stats.Estimate | None = None  # beside train_last_100: of the last tenth of training
    published: Published | None = None
    difference: stats.Estimate | None = None
    env_steps_total: float | None = None  # of a run on average, search included
    usd: float | None = None  # of a run on average
    marks: str = ""
    missing: str = ""
    values: tuple[float, ...] = ()  # of the finished runs, also where others are missing


@dataclass(frozen=True)
class Made:
    """A whole table."""

    table: Table
    cells: list[Shown]
    verdicts: list[claims.Verdict]
    caption: list[str]  # sentences
    summaries: list[Shown] = field(default_factory=list)

    @property
    def complete(self) -> int:
        return sum(cell.ours is not None for cell in self.cells)


def make(table: Table, name: str, cells: Sequence[Cell], found: Mapping[tuple[int, str], RunRecord],
         score_text: str | None = None) -> Made:  # fmt: skip
    """The table from what is on disk. `score_text` asks for another score than the table's; a published number stands
    only beside the same quantity. Raises ConfigError."""
    kind = Score.parse(score_text or table.score)
    paper = name.partition("/")[0] if kind == Score.parse(table.score) else None
    maker = _Maker(table, paper, kind, found)
    shown = [maker.cell(cell) for cell in cells]
    rows, columns = list(dict.fromkeys(c.row for c in cells)), list(dict.fromkeys(c.column for c in cells))
    values = {(cell.row, cell.column): cell.values for cell in shown}
    judged = [claim for claim in table.claims if {claim.better, claim.than} <= set(columns)]
    verdicts = [
        claims.judge(claim, values, rows, one_scale=table.metric_of(claim.better) in ONE_SCALE)
        for claim in judged
        if set(claim.rows or ()) <= set(rows)
    ]
    summaries = [maker.summary(label, shown, column) for label in table.summary or {} for column in columns]
    return Made(table, shown, verdicts, maker.caption(name, cells, shown), summaries)


class _Maker:
    def __init__(self, table: Table, paper: str | None, kind: Score, found: Mapping[tuple[int, str], RunRecord]):
        self.table, self.paper, self.kind, self.found = table, paper, kind, found
        self.reference = atari_reference()
        self.bootstrapped = any(statistic != "mean" for statistic in (table.summary or {}).values())

    def cell(self, cell: Cell) -> Shown:
        metric = self.table.metric_of(cell.column)
        records = [record for run in cell.runs if (record := self.found.get(run.key))]
        done = [r for r in records if standing(r) == DONE_RUN]
        suite = self.table.suite(cell.row, cell.column)
        scored = [(r, v) for r in done if (v := self.number(r, metric, self.kind, suite)) is not None]
        values = tuple(v for _, v in scored)
        theirs = self.theirs(cell.row, cell.column)
        shown = {"row": cell.row, "column": cell.column, "metric": metric, "published": theirs, "values": values,
                 "marks": marks([r for r, _ in scored])}  # fmt: skip
        if len(values) < len(cell.runs):
            return Shown(**shown, n=len(values), missing=missing(cell, records, len(values)))
        greedy = None
        if metric in ("return", "human_normalised", *SUCCESS):
            finals = [self.number(r, metric, Score("last"), suite) for r in done]
            greedy = stats.student(finals) if None not in finals else None
        tenth = None
        if self.kind.kind == "train_last_100" and metric in ("return", "human_normalised"):
            tenths = [self.number(r, metric, Score("train_last_tenth"), suite) for r in done]
            tenth = stats.student(tenths) if None not in tenths else None
        difference = None
        if theirs is not None and theirs.value is not None:
            difference = stats.difference(values, theirs.value, spread=theirs.spread, n=theirs.n)
        total = [self.number(r, "env_steps_total", self.kind) for r in done]
        usd = [self.number(r, "usd", self.kind) for r in done]
        return Shown(
            **shown, ours=stats.student(values), n=len(values), greedy=greedy, last_tenth=tenth, difference=difference,
            env_steps_total=sum(total) / len(total), usd=sum(usd) / len(usd) if None not in usd else None,
        )  # fmt: skip

    def number(self, record: RunRecord, metric: Metric, kind: Score, suite: str | None = None) -> float | None:
        """One run's number, on a suite of evaluation cases; None where it has none."""
        result, llm = record.result or {}, record.llm or {}
        if metric in SUCCESS or (metric == "return" and suite):
            key = "returns" if metric == "return" else metric
            return run_files.evaluated(record.path / "eval.jsonl", key, suite, kind.kind, kind.k)
        if metric in ("return", "human_normalised"):
            value = score(record, kind.kind, k=kind.k)
            if value is None or metric == "return":
                return value
            if record.env not in self.reference:
                raise ConfigError(f"metric: human_normalised needs a random and a human score, {record.env} has none")
            random, human = self.reference[record.env]
            return 100 * (value - random) / (human - random)
        if metric in IMAGINED:
            return (result.get("kalm_rollouts") or {}).get(metric)
        if metric == "env_steps_total":
            return float(result.get("env_steps_total", record.steps if record.unit == "env_steps" else 0))
        if metric == "hours":
            return record.steps / record.steps_per_s / 3600 if record.steps_per_s else None
        if llm.get("calls_without_price") and metric == "usd":
            return None  # tokens without a known price
        return float(llm.get("calls" if metric == "llm_calls" else metric, 0))

    def theirs(self, row: str, column: str) -> Published | None:
        """The published number of a cell; None where the paper's table has no such cell."""
        if self.paper is None or self.table.published is None:
            return None
        rows, columns = self.table.rows, self.table.columns
        row = (rows[row].published or row) if row in rows else row
        column = columns[column].published or column
        return published().get((self.paper, self.table.published, row, column))

    def summary(self, label: str, shown: Sequence[Shown], column: str) -> Shown:
        """A statistic over the rows, with its interval; only where every row is complete."""
        cells = [cell for cell in shown if cell.column == column]
        whole = {cell.row: cell.values for cell in cells if cell.ours}
        known = {"row": label, "column": column, "metric": cells[0].metric, "published": self.theirs(label, column),
                 "marks": "".join(mark for mark in MARKS if any(mark in cell.marks for cell in cells))}  # fmt: skip
        if len(whole) < len(cells):
            return Shown(**known, missing=f"{len(whole)} of {len(cells)} rows")
        estimate = stats.over_tasks(whole, self.table.summary[label], seed=BOOTSTRAP_SEED)
        difference, theirs = None, known["published"]
        if theirs is not None and theirs.value is not None:
            low, high = (None if x is None else x - theirs.value for x in (estimate.low, estimate.high))
            difference = stats.Estimate(estimate.value - theirs.value, low, high, estimate.confidence, estimate.n)
        return Shown(**known, ours=estimate, n=min(len(v) for v in whole.values()), difference=difference)

    def caption(self, name: str, cells: Sequence[Cell], shown: Sequence[Shown]) -> list[str]:
        runs = [run for cell in cells for run in cell.runs]
        records = [r for run in runs if (r := self.found.get(run.key)) and standing(r) == DONE_RUN]
        seeds = ", ".join(map(str, dict.fromkeys(run.seed for run in runs)))
        lengths = " or ".join(f"{n:,} {unit}" for n, unit in sorted({(run.steps, run.unit) for run in runs}))
        of_what = "" if self.table.metric in IMAGINED else f"{self.kind.told()}; "
        told = [f"{name}: {self.table.title}", f"Score: {of_what}{UNITS[self.table.metric]}.",
                f"Seeds {seeds}; {lengths} a run. Intervals: 95 % over runs "
                f"(Student's t{BOOTSTRAPPED * self.bootstrapped}; none below {MIN_N} runs)."]  # fmt: skip
        if self.table.published and self.paper is None:
            told.append("No published numbers: the paper's are not this score.")
        episodes = [r.train_last[1] for r in records if r.train_last]
        if self.kind.kind == "train_last_100" and episodes and min(episodes) < 100:
            told.append(f"Some runs have fewer than 100 training episodes ({min(episodes)} at least): all count.")
        if any(cell.last_tenth for cell in shown):
            told.append("Last tenth: training episodes that ended in the last tenth of training; 100 may be far more.")
        if any(SCRIPTED in cell.marks for cell in shown):
            told.append(f"{SCRIPTED} answers of the scripted LLM, which is no language model.")
        if any(MIXED in cell.marks for cell in shown):
            told.append(f"{MIXED} runs of different versions of the code in one cell.")
        if any(OTHER_CPU in cell.marks for cell in shown):
            told.append(
                f"{OTHER_CPU} runs of different processors in one cell, where equal commands may differ in bits."
            )
        seen = {cell.published.seen for cell in shown if cell.published is not None}
        told += [f"{mark} published number {how}: {SEEN[how]}." for how, mark in READ.items() if how in seen]
        codes = sorted({code for record in records for code in record.codes})
        told.append(f"Code: {', '.join(codes) or 'no finished run'}.")
        if processors := sorted({one for record in records for one in record.processors}):
            told.append(f"Processors: {'; '.join(processors)}.")
        return told + list(self.table.notes)


def missing(cell: Cell, records: Sequence[RunRecord], scored: int) -> str:
    """What a cell without a number lacks: no run; 1 of 3 runs (1 running)."""
    if not records:
        return "no run"
    states = [standing(record) for record in records]
    known = [(RUNNING_RUN, RUNNING_RUN), (DAMAGED, DAMAGED)]
    told = [f"{states.count(state)} {word}" for state, word in known if state in states]
    if states.count(DONE_RUN) > scored:
        told.append(f"{states.count(DONE_RUN) - scored} without this number")
    return f"{scored} of {len(cell.runs)} runs" + (f" ({', '.join(told)})" if told else "")


def marks(records: Sequence[RunRecord]) -> str:
    """† where the scripted LLM answered, ‡ where versions of the code are mixed, * where processors are."""
    scripted = any(r.llm and r.llm.get("model") == "scripted" and r.llm.get("calls") for r in records)
    differ = mixed(records)
    return SCRIPTED * scripted + MIXED * ("code" in differ) + OTHER_CPU * ("processors" in differ)
