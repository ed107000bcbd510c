"""What stands below a table: its score, seeds and intervals, the marks that it uses, code and processors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmrl.contracts.report import Metric
from llmrl.intervals import MIN_N
from llmrl.report.published import SEEN
from llmrl.report.store.record import RunRecord
from llmrl.report.tables.definition import Table
from llmrl.report.tables.grid import Cell
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


def caption(
    table: Table, name: str, score: Score, cells: Sequence[Cell], results: Sequence["CellResult"],
    finished: Sequence[RunRecord], paper: str | None, metrics: Mapping[str, Evaluated | Metric],
) -> list[str]:  # fmt: skip
    """Sentences. `paper` is None where the score is not the table's own."""
    runs = [run for cell in cells for run in cell.runs]
    seeds = ", ".join(map(str, dict.fromkeys(run.seed for run in runs)))
    lengths = " or ".join(f"{n:,} {unit}" for n, unit in sorted({(run.steps, run.unit) for run in runs}))
    displayed = {table.metric, *(result.metric for result in results)}
    evaluated = {table.measured(metric) for metric in displayed} & set(EVALUATED)
    evaluations = f"{score.text}; " if evaluated else ""
    bootstrapped = any(statistic != "mean" for statistic in (table.summary or {}).values())
    texts = [f"{name}: {table.title}", f"Score: {evaluations}{metrics[table.metric].unit}.",
             f"Seeds {seeds}; {lengths} a run. Intervals: 95 % over runs "
             f"(Student's t{BOOTSTRAPPED * bootstrapped}; none below {MIN_N} runs)."]  # fmt: skip
    if table.normalise is not None and NORMALISED in displayed:
        low, high = table.normalise.low, table.normalise.high
        exact = ", of medians and IQMs as if these means were exact" * bootstrapped
        of = "return" if table.metric == NORMALISED else metrics[table.metric].unit
        texts.append(
            f"Normalised: 100 (x - mean {low}) / |mean {high} - mean {low}| of the row's own runs, x: {of}; intervals "
            f"by the delta method{exact}."
        )
    if table.published and paper is None:
        texts.append("No published numbers: the paper's are not this score.")
    episodes = [run.train_last[1] for run in finished if run.train_last]
    if score.kind == "train_last_100" and episodes and min(episodes) < 100:
        texts.append(f"Some runs have fewer than 100 training episodes ({min(episodes)} at least): all count.")
    if any(result.last_tenth for result in results):
        texts.append("Last tenth: training episodes that ended in the last tenth of training; 100 may be far more.")
    texts += [f"{mark} {text}." for mark, text in EXPLAINED.items() if any(mark in result.marks for result in results)]
    seen = {result.published.seen for result in results if result.published is not None}
    texts += [f"{mark} published number {how}: {SEEN[how]}." for how, mark in SEEN_MARKS.items() if how in seen]
    codes = sorted({code for run in finished for code in run.codes})
    texts.append(f"Code: {', '.join(codes) or 'no finished run'}.")
    if processors := sorted({one for run in finished for one in run.processors}):
        texts.append(f"Processors: {'; '.join(processors)}.")
    return texts + list(table.notes)
