"""What stands below a table: what its numbers are, seeds and intervals, the marks that it uses, code and processors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmrl.contracts.report import Metric
from llmrl.intervals import MIN_N
from llmrl.report.published import SEEN
from llmrl.report.tables.definition import Table
from llmrl.report.tables.measured import CellRuns, Ran
from llmrl.report.tables.metrics import EVALUATED, NORMALISED, Evaluated, Score

if TYPE_CHECKING:
    from llmrl.report.tables.fill import CellResult

MARKS = SCRIPTED, MIXED, OTHER_CPU = "†", "‡", "*"  # of a cell
SEEN_MARKS = {"digitised": "§", "derived": "¶", "inferred": "‖"}  # of a published number
BOOTSTRAPPED = "; of medians and IQMs over rows: stratified bootstrap"
EXPLAINED = {
    SCRIPTED: "answers of the scripted LLM, not a language model",
    MIXED: "runs of different versions of the code in one cell",
    OTHER_CPU: "runs of different processors in one cell, where equal commands may differ in bits",
}
SHORT_UNIT = 9  # letters: env_steps
SAMPLED = "sampled"  # an evaluation set's name: `sampled`, `sampled on <set>`


def caption(
    table: Table, name: str, score: Score, cells: Sequence[CellRuns], results: Sequence["CellResult"],
    runs: Sequence[Ran], paper: str | None, metrics: Mapping[str, Evaluated | Metric],
) -> list[str]:  # fmt: skip
    """Sentences, the first two of which a short caption has. `runs`: the finished ones. `paper` is None where the score
    is not the table's own."""
    displayed = {table.metric, *(result.metric for result in results)}
    bootstrapped = any(statistic != "mean" for statistic in (table.summary or {}).values())
    return [
        f"{name}: {table.title}.",
        _numbers(table, score, displayed, cells, metrics),
        *_evaluations(table, score, displayed, cells, results),
        *_seeds(cells, bootstrapped),
        *_normalised(table, displayed, bootstrapped, metrics),
        *_published(table, results, paper),
        *_episodes(score, runs, results),
        *(f"{mark} {text}." for mark, text in EXPLAINED.items() if any(mark in result.marks for result in results)),
        *_origin(runs),
        *table.notes,
    ]


def _numbers(
    table: Table, score: Score, displayed: set[str], cells: Sequence[CellRuns],
    metrics: Mapping[str, Evaluated | Metric],
) -> str:  # fmt: skip
    """Units, those of columns that show something else by name, and which number of a run counts."""
    columns = dict.fromkeys(cell.column for cell in cells)
    unnamed = [c for c in columns if not in_head(table, c, metrics[table.metric_of(c)].unit)]
    units = [metrics[table.metric].unit] if any(table.metric_of(c) == table.metric for c in unnamed) else []
    for metric in dict.fromkeys(map(table.metric_of, unnamed)):
        if metric != table.metric:
            units.append(f"{_quoted([c for c in unnamed if table.metric_of(c) == metric])}: {metrics[metric].unit}")
    of_runs = {table.measured(metric) for metric in displayed} & set(EVALUATED)
    numbers = f"Numbers: {'; '.join(units)}." if units else "Units: as the columns are named."
    return numbers + f" Of a run: {score.text}." * bool(of_runs)


def in_head(table: Table, column: str, unit: str) -> bool:
    """Whether the column's name, with [unit] behind it where that is short, says what its numbers are."""
    return table.columns[column].metric is not None and (len(unit) <= SHORT_UNIT or unit in column)


def _evaluations(
    table: Table, score: Score, displayed: set[str], cells: Sequence[CellRuns], results: Sequence["CellResult"]
) -> list[str]:
    """Whether actions are greedy or sampled, where an evaluation is shown."""
    if not {table.measured(metric) for metric in displayed} & set(EVALUATED):
        return []
    training = score.kind in ("train_last_100", "train_last_tenth")
    if training and not any(result.last_evaluation for result in results):
        return []
    sets = {place: table.evaluation_set(*place) or "" for place in ((cell.row, cell.column) for cell in cells)}
    evaluated = {place for place in sets if table.measured(table.metric_of(place[1])) in EVALUATED}
    sampled = {place for place in evaluated if sets[place].split(" on ")[0] == SAMPLED}
    if not sampled:
        how = "greedy actions"
    elif sampled == evaluated:
        how = "sampled actions"
    else:
        columns = dict.fromkeys(cell.column for cell in cells if (cell.row, cell.column) in sampled)
        rows = dict.fromkeys(cell.row for cell in cells if (cell.row, cell.column) in sampled)
        whole = all((row, column) in sampled for column in columns for row, other in evaluated if other == column)
        how = f"greedy actions, but sampled actions in {_quoted(columns if whole else rows)}"
    which = "Last evaluation, beside the training episodes" if training else "Evaluations"
    return [f"{which}: {how}, apart from training, on cases that are the same for every run."]


def _quoted(labels: Sequence[str] | dict[str, None]) -> str:
    return ", ".join(f"“{label}”" for label in labels)


def _seeds(cells: Sequence[CellRuns], bootstrapped: bool) -> list[str]:
    seeds = ", ".join(map(str, dict.fromkeys(seed for cell in cells for seed in cell.seeds)))
    lengths: dict[str, set[int]] = {}
    for n, unit in {(n, unit) for cell in cells for n, unit in cell.lengths if n > 1}:  # 1: it is evaluated alone
        lengths.setdefault(unit, set()).add(n)
    texts = [f"{_either([f'{n:,}' for n in sorted(ns)])} {unit}" for unit, ns in sorted(lengths.items())]
    a_run = f"; {_either(texts)} a run" if lengths else ""
    means = (f"Means over runs; intervals and ±: 95 % (Student's t{BOOTSTRAPPED * bootstrapped}; "
             f"none below {MIN_N} runs).")  # fmt: skip
    if all(len(cell.seeds) < MIN_N for cell in cells):
        several = any(len(cell.seeds) > 1 for cell in cells)
        means = f"{'Means over runs' if several else 'Single runs'}; no intervals, which need {MIN_N} runs."
    return [f"Seed{'s' * (',' in seeds)} {seeds}{a_run}. {means}"]


def _either(texts: Sequence[str]) -> str:
    """a, b or c"""
    *most, last = texts
    return f"{', '.join(most)} or {last}" if most else last


def _normalised(
    table: Table, displayed: set[str], bootstrapped: bool, metrics: Mapping[str, Evaluated | Metric]
) -> list[str]:
    if table.normalise is None or NORMALISED not in displayed:
        return []
    low, high = table.normalise.low, table.normalise.high
    exact = ", of medians and IQMs as if these means were exact" * bootstrapped
    of = "return" if table.metric == NORMALISED else metrics[table.metric].unit
    return [
        f"Normalised: 100 (x - mean {low}) / |mean {high} - mean {low}| of the row's own runs, x: {of}; intervals "
        f"by the delta method{exact}."
    ]


def _published(table: Table, results: Sequence["CellResult"], paper: str | None) -> list[str]:
    """Where the published numbers stand, how they were read, or why there are none."""
    if not table.published:
        return []
    if paper is None:
        return ["No published numbers: the paper's are not this score."]
    cells = [result.published for result in results if result.published is not None]
    if not any(cell.value is not None for cell in cells):
        return ["The paper's numbers for these cells are not known to us."]
    texts = ["Difference: ours minus the published number, with Welch's interval where its spread is known, else as if "
             "it were exact."] if any(result.difference for result in results) else []  # fmt: skip
    marked = [(mark, seen) for seen, mark in SEEN_MARKS.items() if any(cell.seen == seen for cell in cells)]
    return texts + [f"{mark} published number {seen}: {SEEN[seen]}." for mark, seen in marked]


def _episodes(score: Score, runs: Sequence[Ran], results: Sequence["CellResult"]) -> list[str]:
    texts = []
    episodes = [run.episodes for run in runs if run.episodes]
    if score.kind == "train_last_100" and episodes and min(episodes) < 100:
        texts.append(f"Some runs have fewer than 100 training episodes ({min(episodes)} at least): all count.")
    if any(result.last_tenth for result in results):
        texts.append("Last tenth: training episodes that ended in the last tenth of training; 100 may be far more.")
    return texts


def _origin(runs: Sequence[Ran]) -> list[str]:
    """What the runs were made by."""
    codes, processors = ({one for run in runs for one in getattr(run, key)} for key in ("codes", "processors"))
    texts = [f"{what}: {'; '.join(sorted(names))}." for what, names in (("Code", codes), ("Processors", processors))
             if names]  # fmt: skip
    models = sorted({run.model for run in runs if run.model and run.model != "scripted"})
    return texts + [f"Language models: {', '.join(models)}."] * bool(models)
