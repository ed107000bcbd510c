"""The parts of a page: cells, tables that sort and filter, links. Whatever comes from a run is escaped here."""

import os
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from llmrl.report.store.groups import SCRIPTED, Group
from llmrl.report.store.record import RunRecord
from llmrl.runs.identity import unit_suffix


class Cell(NamedTuple):
    """A table's cell: its text, what it is sorted by, or trusted html in place of the text."""

    text: str = ""
    value: float | None = None
    html: str | None = None


def table(name: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: str = "") -> str:
    """A table that sorts and filters.

    Args:
        name: its id on the page.
        numbers: the heads of columns of numbers, separated by |.
    """
    right = set(numbers.split("|"))
    classes = ["number" if head in right else "" for head in heads]
    head = "".join(f'<th scope="col" class="{c}">{escape(h)}</th>' for h, c in zip(heads, classes))
    body = "\n".join("<tr>" + "".join(map(_td, row, classes)) + "</tr>" for row in rows)
    return (
        f'<div class="filter" data-table="{name}"><label for="{name}-filter">Filter</label>'
        f'<input id="{name}-filter" type="search" autocomplete="off" placeholder="words that a row has">'
        f'<output for="{name}-filter" class="quiet"></output></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption.split(".")[0])}">'
        f'<table id="{name}" class="sortable"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _td(cell: Cell, css: str) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f'<td class="{css}"{value}>{escape(cell.text) if cell.html is None else cell.html}</td>'


def number(value: float | None, digits: int = 1) -> Cell:
    """A number; nothing where there is none."""
    return Cell() if value is None else Cell(f"{value:,.{digits}f}", float(value))


def whole(value: float | None, unit: str = "env_steps") -> Cell:
    """A whole number, with its unit where that is not env_steps."""
    cell = number(value, 0)
    return cell if value is None else cell._replace(text=cell.text + unit_suffix(unit))


def named(group: Group) -> Cell:
    """A group's name, marked where a rule answered in place of an LLM."""
    mark = f' <span class="mark">{SCRIPTED}</span>' if group.scripted else ""
    return Cell(html=f'<span class="setting">{escape(group.name)}{mark}</span>')


def link(path: Path, at: Path, text: str) -> str:
    """A link to a file, from the directory of the page."""
    return f'<a href="{quote(os.path.relpath(path, at))}">{escape(text)}</a>'


def each_run(groups: Sequence[Group]) -> Iterator[tuple[Group, RunRecord]]:
    """All runs with their groups."""
    return ((group, run) for group in groups for run in group.runs)


def title_of(group: Group, run: RunRecord) -> str:
    """A run in words."""
    return f"{group.label} · {group.env} · seed {run.seed}"
