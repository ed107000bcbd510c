"""A table as text: for the terminal, as markdown, as LaTeX (booktabs) and as csv with all digits."""

import csv
import io
from collections.abc import Sequence

from llmrl.report.stats import Estimate
from llmrl.report.tables import MIXED, OTHER_CPU, READ, SCRIPTED, UNITS, Made, Shown

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


def lines(made: Made) -> list[tuple[str, ...]]:
    """A line per cell, then the statistics over rows."""
    return [_line(cell, made.table.metric) for cell in (*made.cells, *made.summaries)]


def shape(made: Made) -> list[tuple[str, ...]]:
    """The paper's shape: rows by columns, ours (published); head first. Empty where a list says as much."""
    cells = (*made.cells, *made.summaries)
    rows, columns = list(dict.fromkeys(c.row for c in cells)), list(dict.fromkeys(c.column for c in cells))
    if len(rows) < 2 or len(columns) < 2:
        return []
    at = {(cell.row, cell.column): cell for cell in cells}
    return [("", *columns), *((row, *(_short(at[row, column]) for column in columns)) for row in rows)]


def _short(cell: Shown) -> str:
    ours = number(cell.ours.value) + cell.marks if cell.ours else cell.missing
    known = cell.published is not None and cell.published.value is not None
    return f"{ours} ({theirs(cell)})" if known else ours


def theirs(cell: Shown) -> str:
    """The published number, marked where it does not stand so in the source."""
    if cell.published is None:
        return NOTHING
    if cell.published.value is None:
        return "not known"
    return number(cell.published.value) + READ.get(cell.published.seen, "")


def _line(cell: Shown, metric: str) -> tuple[str, ...]:
    unit = f" [{UNITS[cell.metric]}]" if cell.metric != metric else ""
    return (
        cell.row, cell.column + unit, number(cell.ours.value) + cell.marks if cell.ours else cell.missing,
        interval(cell.ours), str(cell.n), theirs(cell), estimate(cell.difference, sign=True),
        estimate(cell.greedy), estimate(cell.last_tenth),
        f"{cell.env_steps_total:,.0f}" if cell.env_steps_total is not None else NOTHING,
        usd(cell),
    )  # fmt: skip


def usd(cell: Shown) -> str:
    if cell.usd is None:
        return NOTHING if cell.ours is None else "unknown"
    return f"{cell.usd:.2f}" if cell.usd == 0 or cell.usd >= 0.005 else f"{cell.usd:.2g}"


def number(value: float, *, sign: bool = False) -> str:
    """Two decimals below 100, one above, none from 10,000 on."""
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0
    return f"{value:{'+' if sign else ''},.{digits}f}"


def interval(made: Estimate | None) -> str:
    return NOTHING if made is None or made.low is None else f"[{number(made.low)}, {number(made.high)}]"


def estimate(made: Estimate | None, *, sign: bool = False) -> str:
    return NOTHING if made is None else f"{number(made.value, sign=sign)} {interval(made)}".strip()


def verdicts(made: Made) -> list[str]:
    """Claims with their verdicts, and after them each rule once."""
    told = [f"{v.claim.text} ({v.claim.better} above {v.claim.than}): {v.verdict}; {v.numbers}" for v in made.verdicts]
    return told + list(dict.fromkeys(v.rule for v in made.verdicts))


def markdown(made: Made) -> str:
    tables = [t for t in (shape(made), [HEAD, *lines(made)]) if t]
    parts = [f"# {made.table.title}", *(_markdown_table(t) for t in tables), "\n".join(made.caption)]
    if made.verdicts:
        parts.append("\n".join(f"- {line}" for line in verdicts(made)))
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def latex(made: Made) -> str:
    """A table environment for \\usepackage{booktabs}."""
    head, *rows = [[escaped(cell) for cell in row] for row in (HEAD, *lines(made))]
    body = "\n".join(f"    {' & '.join(row)} \\\\" for row in rows)
    caption = " ".join(escaped(sentence) for sentence in made.caption)
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


def as_csv(made: Made) -> str:
    """All digits; an empty field is no number. `runs`: the runs' own scores."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV)
    for cell in (*made.cells, *made.summaries):
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


def _three(made: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if made is None else (made.value, made.low, made.high)
