"""A table as text: for the terminal, as markdown, and as csv with all digits; latex.py has LaTeX."""

import csv
import io
from collections.abc import Sequence

from llmrl.report.stats import Estimate
from llmrl.report.tables import digits as form
from llmrl.report.tables.caption import MIXED, OTHER_CPU, SCRIPTED, SEEN_MARKS, in_head
from llmrl.report.tables.claims import UNTESTED, Verdict
from llmrl.report.tables.fill import CellResult, FilledTable
from llmrl.report.tables.measured import MISSING

HEAD = ("row", "column", "ours", "95 % interval", "n", "published", "difference", "last evaluation", "last tenth",
        "env_steps_total", "USD")  # fmt: skip
ALWAYS = 3  # columns that are there even if no cell has content
NOTHING, NO_RUN = "", "–"
WIDTH = 110  # letters; a compact form that is wider has its rows as columns if that is narrower
Rows = list[tuple[str, ...]]


def long(filled: FilledTable) -> Rows:
    """Head, a line per cell, then the statistics over rows; columns in which no cell has content are left out."""
    lines = [HEAD, *(_line(cell, filled) for cell in (*filled.cells, *filled.summaries))]
    kept = [i for i in range(len(HEAD)) if i < ALWAYS or any(line[i] for line in lines[1:])]
    return [tuple(line[i] for i in kept) for line in lines]


def compact(filled: FilledTable, width: int = WIDTH) -> Rows:
    """The paper's shape, rows by columns: ours ± half of the interval (published); head first. Turned around where it
    is wider than `width` letters and narrower the other way."""
    cells = (*filled.cells, *filled.summaries)
    rows, columns = list(dict.fromkeys(c.row for c in cells)), list(dict.fromkeys(c.column for c in cells))
    at = {(cell.row, cell.column): cell for cell in cells}
    heads = {column: column + _unit(at[rows[0], column], filled) for column in columns}
    upright = [("", *heads.values()), *((r, *(_short(at[r, c], filled) for c in columns)) for r in rows)]
    turned = list(zip(*upright))
    return turned if letters(upright) > max(width, letters(turned)) else upright


def letters(rows: Sequence[Sequence[str]]) -> int:
    """How wide the rows are, in columns of their own."""
    return sum(max(map(len, column)) + 2 for column in zip(*rows))


def has_compact(filled: FilledTable) -> bool:
    """Whether rows by columns say more than the list."""
    return len({cell.row for cell in filled.cells}) > 1 and len({cell.column for cell in filled.cells}) > 1


def has_long(filled: FilledTable) -> bool:
    """Whether the list says more than rows by columns: not before there are runs."""
    return not has_compact(filled) or any(cell.missing != MISSING for cell in filled.cells)


def legend(filled: FilledTable) -> str:
    """What stands in a cell of the compact form."""
    cells = (*filled.cells, *filled.summaries)
    parts = ["ours" + " ± half of the 95 % interval" * any(cell.ours and cell.ours.low is not None for cell in cells)]
    parts[0] += " (published)" * any(theirs(cell, filled) for cell in cells)
    parts += [f"{NO_RUN}: no run yet"] * any(cell.missing == MISSING for cell in filled.cells)
    return "; ".join(parts)


def _unit(cell: CellResult, filled: FilledTable) -> str:
    """[USD], of a column that shows something else than the table; a long one is in the caption alone."""
    unit = filled.units[cell.metric]
    shown = in_head(filled.table, cell.column, unit) and unit not in cell.column
    return f" [{unit}]" if shown else ""


def _short(cell: CellResult, filled: FilledTable) -> str:
    known = theirs(cell, filled)
    return f"{ours(cell, filled)} ({known})" if known else ours(cell, filled)


def ours(cell: CellResult, filled: FilledTable) -> str:
    """Our number ± half of its interval; or what is missing."""
    if cell.ours is None:
        return NO_RUN if cell.missing == MISSING else cell.missing
    return form.plus_minus(cell.ours, filled.decimals[cell.metric], cell.marks)


def theirs(cell: CellResult, filled: FilledTable) -> str:
    """The published number, marked where the source does not say it verbatim. Empty where it is not known."""
    if cell.published is None or cell.published.value is None:
        return NOTHING
    digits = filled.decimals[cell.metric]
    return form.number(cell.published.value, digits) + SEEN_MARKS.get(cell.published.seen, "")


def _line(cell: CellResult, filled: FilledTable) -> tuple[str, ...]:
    digits = filled.decimals[cell.metric]
    unknown = cell.published is not None and any(theirs(other, filled) for other in filled.cells)
    return (
        cell.row, cell.column + _unit(cell, filled),
        form.number(cell.ours.value, digits) + cell.marks if cell.ours else cell.missing,
        form.interval(cell.ours.low, cell.ours.high, digits) if cell.ours else NOTHING,
        str(cell.n) if cell.n else NOTHING, theirs(cell, filled) or "not known" * unknown,
        form.estimate(cell.difference, digits, sign=True),
        form.estimate(cell.last_evaluation, digits), form.estimate(cell.last_tenth, digits),
        f"{cell.env_steps_total:,.0f}" if cell.env_steps_total is not None else NOTHING,
        usd(cell),
    )  # fmt: skip


def usd(cell: CellResult) -> str:
    """Dollars; "unknown" where a price is."""
    if cell.usd is None:
        return NOTHING if cell.ours is None else "unknown"
    return f"{cell.usd:.2f}" if cell.usd == 0 or cell.usd >= 0.005 else f"{cell.usd:.2g}"


def states(filled: FilledTable) -> str:
    """12 cells: 3 filled, 1 partial, 8 missing."""
    return f"{len(filled.cells)} cells: {', '.join(f'{n} {state}' for state, n in filled.states.items() if n)}."


def verdicts(filled: FilledTable) -> list[str]:
    """Claims with their verdicts, and after them each rule once."""
    texts = [_verdict(verdict) for verdict in filled.verdicts]
    return texts + list(dict.fromkeys(v.rule for v in filled.verdicts if v.verdict != UNTESTED))


def _verdict(verdict: Verdict) -> str:
    claim, word = verdict.claim, verdict.verdict.capitalize()
    if verdict.verdict == UNTESTED:
        return f"{word}: {claim.text} ({claim.better} above {claim.than})"
    return f"{word}: {claim.text} {claim.better} minus {claim.than}: {verdict.numbers}."


def markdown(filled: FilledTable) -> str:
    parts = [f"# {filled.table.title}"]
    if has_compact(filled):
        parts += [f"{legend(filled).capitalize()}:", _markdown_table(compact(filled))]
    if has_long(filled):
        parts.append(_markdown_table(long(filled)))
    parts += ["\n".join(filled.caption), states(filled)]
    if filled.verdicts:
        parts.append("\n".join(f"- {line}" for line in verdicts(filled)))
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


CSV = ("row", "column", "metric", "ours", "low", "high", "n", "published", "published_seen", "published_source",
       "difference", "difference_low", "difference_high", "last_evaluation", "last_evaluation_low",
       "last_evaluation_high", "last_tenth", "env_steps_total", "usd", "scripted", "mixed_code", "mixed_processors",
       "missing", "runs")  # fmt: skip


def as_csv(filled: FilledTable) -> str:
    """All digits; an empty field where there is no number. `runs`: the runs' own scores."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV)
    for cell in (*filled.cells, *filled.summaries):
        known = cell.published
        writer.writerow([
            cell.row, cell.column, cell.metric, *_three(cell.ours), cell.n, known.value if known else None,
            known.seen if known else None, known.source if known else None,
            *_three(cell.difference), *_three(cell.last_evaluation),
            cell.last_tenth.value if cell.last_tenth else None, cell.env_steps_total,
            cell.usd, int(SCRIPTED in cell.marks), int(MIXED in cell.marks), int(OTHER_CPU in cell.marks),
            cell.missing,
            " ".join(repr(value) for value in cell.values),
        ])  # fmt: skip
    return out.getvalue()


def _three(found: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if found is None else (found.value, found.low, found.high)
