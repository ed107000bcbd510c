"""Text in columns, for the commands that print lists."""

import shutil
import sys
from collections.abc import Sequence


def columns(rows: Sequence[Sequence[object]], *, right: Sequence[int] = (), indent: str = "  ") -> str:
    """Rows of cells -> lines, columns as wide as their widest cell; those named in `right` are flush right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: list[str]) -> str:
        padded = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return f"{indent}{'  '.join(padded)}".rstrip()

    return "\n".join(fit(line(row)) for row in cells)


CUT = "…"


def fit(line: str) -> str:
    """A line cut to the terminal's width; whole where the output is no terminal."""
    width = shutil.get_terminal_size().columns
    return line if not sys.stdout.isatty() or len(line) <= width else f"{line[: width - 1]}{CUT}"


def is_cut(text: str) -> bool:
    """Whether `fit` has cut a line of it."""
    return sys.stdout.isatty() and any(line.endswith(CUT) for line in text.splitlines())
