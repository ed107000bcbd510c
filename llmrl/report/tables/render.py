"""A table as text: for the terminal, as markdown, as LaTeX (booktabs) and as csv with all digits."""

import csv
import io
from collections.abc import Sequence

from llmrl.report.stats import Estimate
from llmrl.report.tables.caption import MIXED, OTHER_CPU, SCRIPTED, SEEN_MARKS
from llmrl.report.tables.fill import CellResult, FilledTable

HEAD = (
    "row",
    "column",
    "ours",
    "95 % interval",
    "n",
    "published",
    "difference",
    "greedy",
    "last tenth",
    "env_steps_total",
    "USD",
)
RIGHT = range(2, 11)  # columns of numbers
NOTHING = ""


def lines(filled: FilledTable) -> list[tuple[str, ...]]:
    """A line per cell, then the statistics over rows."""
    return [_line(cell, filled) for cell in (*filled.cells, *filled.summaries)]


def shape(filled: FilledTable) -> list[tuple[str, ...]]:
    """The paper's shape: rows by columns, ours (published); head first. Empty where a list says as much."""
    cells = (*filled.cells, *filled.summaries)
    rows, columns = list(dict.fromkeys(c.row for c in cells)), list(dict.fromkeys(c.column for c in cells))
    if len(rows) < 2 or len(columns) < 2:
        return []
    at = {(cell.row, cell.column): cell for cell in cells}
    return [("", *columns), *((row, *(_short(at[row, column]) for column in columns)) for row in rows)]


def _short(cell: CellResult) -> str:
    ours = number(cell.ours.value) + cell.marks if cell.ours else cell.missing
    known = cell.published is not None and cell.published.value is not None
    return f"{ours} ({theirs(cell)})" if known else ours


def theirs(cell: CellResult) -> str:
    """The published number, marked where the source does not say it verbatim."""
    if cell.published is None:
        return NOTHING
    if cell.published.value is None:
        return "not known"
    return number(cell.published.value) + SEEN_MARKS.get(cell.published.seen, "")


def _line(cell: CellResult, filled: FilledTable) -> tuple[str, ...]:
    unit = f" [{filled.units[cell.metric]}]" if cell.metric != filled.table.metric else ""
    return (
        cell.row, cell.column + unit, number(cell.ours.value) + cell.marks if cell.ours else cell.missing,
        interval(cell.ours), str(cell.n), theirs(cell), estimate(cell.difference, sign=True),
        estimate(cell.greedy), estimate(cell.last_tenth),
        f"{cell.env_steps_total:,.0f}" if cell.env_steps_total is not None else NOTHING,
        usd(cell),
    )  # fmt: skip


def usd(cell: CellResult) -> str:
    """Dollars; "unknown" where a price is."""
    if cell.usd is None:
        return NOTHING if cell.ours is None else "unknown"
    return f"{cell.usd:.2f}" if cell.usd == 0 or cell.usd >= 0.005 else f"{cell.usd:.2g}"


def number(value: float, *, sign: bool = False) -> str:
    """Two decimals below 100, one above, none from 10,000 on."""
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0
    return f"{value:{'+' if sign else ''},.{digits}f}"


def interval(found: Estimate | None) -> str:
    """[low, high], where there is one."""
    if found is None or found.low is None or found.high is None:
        return NOTHING
    return f"[{number(found.low)}, {number(found.high)}]"


def estimate(found: Estimate | None, *, sign: bool = False) -> str:
    """value [low, high]"""
    return NOTHING if found is None else f"{number(found.value, sign=sign)} {interval(found)}".strip()


def verdicts(filled: FilledTable) -> list[str]:
    """Claims with their verdicts, and after them each rule once."""
    texts = [
        f"{v.claim.text} ({v.claim.better} above {v.claim.than}): {v.verdict}; {v.numbers}" for v in filled.verdicts
    ]
    return texts + list(dict.fromkeys(v.rule for v in filled.verdicts))


def markdown(filled: FilledTable) -> str:
    tables = [t for t in (shape(filled), [HEAD, *lines(filled)]) if t]
    parts = [f"# {filled.table.title}", *(_markdown_table(t) for t in tables), "\n".join(filled.caption)]
    if filled.verdicts:
        parts.append("\n".join(f"- {line}" for line in verdicts(filled)))
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def latex(filled: FilledTable) -> str:
    """A table environment for \\usepackage{booktabs}."""
    head, *rows = [[escaped(cell) for cell in row] for row in (HEAD, *lines(filled))]
    body = "\n".join(f"    {' & '.join(row)} \\\\" for row in rows)
    caption = " ".join(escaped(sentence) for sentence in filled.caption)
    return (
        "\\begin{table}\n  \\centering\n  \\caption{" + caption + "}\n"
        "  \\begin{tabular}{ll" + "r" * (len(HEAD) - 2) + "}\n    \\toprule\n"
        f"    {' & '.join(head)} \\\\\n    \\midrule\n{body}\n    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n"
    )


TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", SCRIPTED: r"\dag{}", MIXED: r"\ddag{}",
       "§": r"\S{}", "¶": r"\P{}", "‖": r"$\Vert$"}  # fmt: skip


def escaped(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


CSV = ("row", "column", "metric", "ours", "low", "high", "n", "published", "published_seen", "published_source",
       "difference", "difference_low", "difference_high", "greedy", "greedy_low", "greedy_high", "last_tenth",
       "env_steps_total", "usd", "scripted", "mixed_code", "mixed_processors", "missing", "runs")  # fmt: skip


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
            *_three(cell.difference), *_three(cell.greedy),
            cell.last_tenth.value if cell.last_tenth else None, cell.env_steps_total,
            cell.usd, int(SCRIPTED in cell.marks), int(MIXED in cell.marks), int(OTHER_CPU in cell.marks),
            cell.missing,
            " ".join(repr(value) for value in cell.values),
        ])  # fmt: skip
    return out.getvalue()


def _three(found: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if found is None else (found.value, found.low, found.high)
