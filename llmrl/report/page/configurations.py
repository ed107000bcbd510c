"""The page's configurations (what differs between settings first) and versions of the code."""

import json
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path

from llmrl.report.figures.style import shortened
from llmrl.report.page.html import Cell, each_run, link, table, whole
from llmrl.report.store.groups import Group, differing, flat
from llmrl.report.store.record import RunRecord


def configurations(groups: Sequence[Group]) -> str:
    """What differs between settings first, then each whole."""
    settings = [flat({k: v for k, v in group.runs[0].config.items() if k not in ("seed", "rerun")}) for group in groups]
    rows = []
    for key in differing(settings):
        if len({setting[key] for setting in settings if key in setting}) == 1:
            continue  # others have no such key: they chose another agent or method, which is a row of its own
        who: defaultdict[str, list[str]] = defaultdict(list)
        for group, setting in zip(groups, settings):
            if key in setting:
                who[setting[key]].append(f"{group.name} on {group.env}")
        rows += [[Cell(key), Cell(shortened(value, 120)), Cell(_few(names))] for value, names in who.items()]
    different = table("configuration-table", "What differs between settings: each value, and who has it.",
                 ("key", "value", "settings"), rows)  # fmt: skip
    whole = "".join(
        f"<details><summary>{escape(g.label)} · {escape(g.env)}</summary>"
        f"<pre>{escape(json.dumps(g.runs[0].config, indent=2, ensure_ascii=False))}</pre></details>"
        for g in groups
    )
    return f"{different if rows else '<p>All runs have the same configuration but for their seeds.</p>'}{whole}"


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def versions(groups: Sequence[Group], at: Path) -> str:
    """A row for each version of code and packages."""
    runs = [run for _, run in each_run(groups)]
    names = sorted({name for run in runs for name in run.packages})
    kinds: defaultdict[tuple, list[RunRecord]] = defaultdict(list)
    for run in runs:
        kinds[(run.code or "unknown", *(run.packages.get(name) or "—" for name in names))].append(run)
    rows = []
    for (code, *packages), made in kinds.items():
        patches = sorted(made[0].path.glob("code*.patch"))
        links = ", ".join(link(patch, at, patch.name) for patch in patches)
        cell = Cell(html=escape(code) + (f" ({links})" if links else ""))
        rows.append([cell, whole(len(made)), *(Cell(version) for version in packages)])
    caption = "What the runs were last started with. code+letters: a commit and what differed from it, as a patch."
    return table("versions-table", caption, ("code", "runs", *names), rows, "runs")
