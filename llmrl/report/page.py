"""One html page about a study: tables, plots, videos, LLM cost and transcripts, configurations, versions.

The page is a single file that asks no network for anything. Whatever stands in a run's files is text to it: escaped
here, text nodes in page.js, and a content security policy allows no script but that one.
"""

import base64
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from itertools import count
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import quote

from llmrl import __version__
from llmrl.checks import ConfigError
from llmrl.llm.transcript import ReplayError
from llmrl.report import plots, stats
from llmrl.report.groups import SCRIPTED, Group, differing, flat, gather, mixed
from llmrl.report.page_llm import LIMITS, llm_data
from llmrl.report.run_files import DamagedFile
from llmrl.report.searches import shared, tried
from llmrl.report.store import Kind, RunRecord, dollars, score
from llmrl.runs.files import writing
from llmrl.runs.identity import DONE, unit_suffix

TOLD: tuple[Kind, ...] = ("last", "best", "train_last_100", "train_last_tenth")  # of each run
HERE = Path(__file__).parent
MAX_VIDEO_MB, MAX_VIDEOS_MB = 8, 40  # one video, all of them; what is larger is linked
MAX_TRANSCRIPTS_MB = 30  # all of them; what is more is linked
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm"}
CAPTIONS = {
    "curves": "Learning curves: greedy evaluations over training.",
    "bars": "Last greedy evaluation of the finished runs.",
    "profile": "Performance profile: which fraction of runs is above a normalised score.",
    "exploration": "What the LLM made of exploration: the distribution over actions, or the bias, over training.",
    "lipschitz": "Lipschitz constants of the state's dimensions under each search's chosen program, source and added.",
}


class Cell(NamedTuple):
    """A table's cell: what is read, what it is sorted by, or html that was made here."""

    text: str = ""
    value: float | None = None
    html: str | None = None


Section = tuple[str, str, str]  # id, heading, html


def write(records: Sequence[RunRecord], out: Path, title: str) -> Path:
    """Writes the page to `out`. Raises ConfigError where every run is damaged."""
    groups = gather(records)
    if not groups:
        told = "\n".join(damage for record in records for damage in record.damage)
        raise ConfigError(f"all of these runs are damaged, there is nothing to show:\n{told}")
    out.parent.mkdir(parents=True, exist_ok=True)
    at = out.absolute().parent
    sections: list[Section] = [("summary", "Summary", _notices(records, groups) + _summary(groups))]
    sections += _plots(groups)
    sections += _videos(groups, at)
    sections.append(("runs", "Runs", _runs(groups, at)))
    sections += _searches(groups)
    sections += _llm(groups, at)
    sections.append(("configuration", "Configurations", _configurations(groups)))
    sections.append(("versions", "Versions and code", _versions(groups, at)))
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title), lead=escape(_lead(records)),
        nav="".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections),
        sections="\n".join(f'<section id="{n}">\n<h2>{escape(h)}</h2>\n{html}\n</section>' for n, h, html in sections),
        foot=f"Made by llmrl {__version__} from the files of the runs; it needs no network.",
        style=(HERE / "page.css").read_text(encoding="utf-8"), script=script,
        script_hash="sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    with writing(out):
        out.write_bytes(page.encode("utf-8", "replace"))  # an answer may hold lone surrogates
    return out


def _lead(records: Sequence[RunRecord]) -> str:
    standing = Counter("DAMAGED" if r.damaged else r.status for r in records)
    studies = ", ".join(sorted({r.study for r in records}))
    return f"{len(records)} runs ({', '.join(f'{n} {s}' for s, n in sorted(standing.items()))}) of study {studies}"


def _notices(records: Sequence[RunRecord], groups: Sequence[Group]) -> str:
    """What has to be known before a number is read."""
    notices = []
    if names := [g.name for g in groups if g.scripted]:
        told = "asked no language model: a rule answered. Their numbers say nothing about an LLM"
        notices.append(f"Runs marked “{SCRIPTED}” {told} ({', '.join(sorted(set(names)))}).")
    shown = {run.path for group in groups for run in group.runs}
    if twice := [r for r in records if not r.damaged and r.path not in shown]:
        notices.append(f"{len(twice)} runs were made more than once, in other studies; each counts once.")
    for group in groups:
        for what, them in mixed(group.runs).items():
            notices.append(f"{group.name} on {group.env} mixes runs of different {what}: {', '.join(them)}.")
    notices += [f"Left out, damaged: {damage}" for record in records for damage in record.damage]
    return "".join(f'<p class="notice">{escape(text)}</p>' for text in notices)


# --- tables -----------------------------------------------------------------------------------------------------------


def table(name: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: str = "") -> str:
    """A table that sorts and filters; `numbers` names the columns of numbers, separated by |."""
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


def _number(value: float | None, digits: int = 1) -> Cell:
    return Cell() if value is None else Cell(f"{value:,.{digits}f}", float(value))


def _whole(value: float | None, unit: str = "env_steps") -> Cell:
    cell = _number(value, 0)
    return cell if value is None else cell._replace(text=cell.text + unit_suffix(unit))


def _named(group: Group) -> Cell:
    mark = f' <span class="mark">{SCRIPTED}</span>' if group.scripted else ""
    return Cell(html=escape(group.name) + mark)


def _link(path: Path, at: Path, text: str) -> str:
    return f'<a href="{quote(os.path.relpath(path, at))}">{escape(text)}</a>'


def _summary(groups: Sequence[Group]) -> str:
    caption = (
        "Finished runs of each setting. Last and best: greedy evaluation, mean over runs; best picks each run's best "
        "evaluation and is therefore too high. Training: mean return of the last 100 training episodes, exploring; "
        "last tenth: of those that ended in the last tenth of training. "
        "Interval: Student's t, 95 %, of the last evaluation's mean over runs; fewer than 3 have none."
    )
    heads = ("method and agent", "env", "runs", "last", "interval", "best", "training", "last tenth", "random policy",
             "env_steps", "LLM calls", "USD")  # fmt: skip
    return table("summary-table", caption, heads, map(_summary_row, groups), "|".join(heads[2:]))


def _summary_row(group: Group) -> list[Cell]:
    done = group.finished

    def mean(values: Iterable[float | None]) -> float | None:
        there = [v for v in values if v is not None]
        return sum(there) / len(there) if there else None

    last = [s for run in done if (s := score(run, "last")) is not None]
    interval, estimate = Cell(), stats.student(last) if last else None
    if estimate and estimate.low is not None:
        interval = Cell(f"{estimate.low:,.1f} to {estimate.high:,.1f}", estimate.low)
    runs = f"{len(done)}" if len(done) == len(group.runs) else f"{len(done)} of {len(group.runs)}"
    asked = [run.llm for run in group.runs if run.llm]
    return [
        _named(group), Cell(group.env), Cell(runs, len(done)), _number(mean(last)), interval,
        _number(mean(score(run, "best") for run in done)),
        *(_number(mean(score(run, kind) for run in done)) for kind in ("train_last_100", "train_last_tenth")),
        _number(group.random),
        _whole(mean(run.steps for run in done), done[0].unit if done else "env_steps"),
        _whole(sum(u["calls"] for u in asked) if asked else None),
        _dollars([dollars(u) for u in asked]),
    ]  # fmt: skip


def _dollars(known: Sequence[float | None]) -> Cell:
    """Their sum; "unknown" where a price is, and nothing where nobody was asked."""
    if not known:
        return Cell()
    return Cell("unknown") if None in known else _number(sum(known), 4)


def _runs(groups: Sequence[Group], at: Path) -> str:
    heads = ("method and agent", "env", "seed", "study", "status", "env_steps", "last", "best", "training",
             "last tenth", "env_steps/s", "code", "directory")  # fmt: skip
    rows = [[
        _named(group), Cell(group.env), _whole(run.seed), Cell(run.study),
        Cell(run.status + (f": {run.reason.splitlines()[0]}" if run.reason and run.status != DONE else "")),
        _whole(run.steps, run.unit), *(_number(score(run, kind)) for kind in TOLD),
        _whole(run.steps_per_s, run.unit), Cell(", ".join(run.codes)), Cell(html=_link(run.path, at, run.path.name)),
    ] for group, run in _each(groups)]  # fmt: skip
    caption = "All runs. An unfinished run shows what it has come to so far; it counts in no mean of the summary."
    return table("runs-table", caption, heads, rows, "seed|env_steps|last|best|training|last tenth|env_steps/s")


def _each(groups: Sequence[Group]) -> Iterator[tuple[Group, RunRecord]]:
    return ((group, run) for group in groups for run in group.runs)


def _title(group: Group, run: RunRecord) -> str:
    return f"{group.label} · {group.env} · seed {run.seed}"


# --- pictures ---------------------------------------------------------------------------------------------------------


def _plots(groups: Sequence[Group]) -> list[Section]:
    figures = []
    for kind, draw in plots.PLOTS.items():
        try:
            svg = _svg(draw(groups))
        except ConfigError:
            continue  # these runs do not have it
        figures.append(f'<figure><img alt="{escape(CAPTIONS[kind])}" src="data:image/svg+xml;base64,{svg}"></figure>'
                       f'<p class="quiet">{escape(CAPTIONS[kind])}</p>')  # fmt: skip
    return [("plots", "Plots", "".join(figures))] if figures else []


def _svg(figure: Any) -> str:
    import matplotlib

    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "llmrl"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    return base64.b64encode(held.getvalue()).decode()


def _videos(groups: Sequence[Group], at: Path) -> list[Section]:
    shown, linked, room = [], [], MAX_VIDEOS_MB * 1e6
    for group, run in _each(groups):
        for path in sorted(p for p in (run.path / "video").glob("*") if p.suffix in VIDEOS):
            size, name = path.stat().st_size, f"{_title(group, run)} · {path.name}"
            if size > min(MAX_VIDEO_MB * 1e6, room):
                linked.append(f"<li>{_link(path, at, name)} ({size / 1e6:.1f} MB)</li>")
                continue
            room -= size
            source = f"data:{VIDEOS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
            film = f'<video controls preload="metadata" aria-label="{escape(name)}" src="{source}"></video>'
            shown.append(f"<figure>{film}<figcaption>{escape(name)}</figcaption></figure>")
    if not shown and not linked:
        return []
    told = f"<p>Larger than {MAX_VIDEO_MB} MB, or beyond {MAX_VIDEOS_MB} MB in all, and therefore beside this page:</p>"
    return [("videos", "Videos", f'<div class="videos">{"".join(shown)}</div>'
             + (f"{told}<ul>{''.join(linked)}</ul>" if linked else ""))]  # fmt: skip


# --- LLM --------------------------------------------------------------------------------------------------------------


def _searches(groups: Sequence[Group]) -> list[Section]:
    """What LESR's searches tried, rejected and chose; a search that several runs share stands once."""
    searches = shared(groups)
    if not searches:
        return []
    rows = [
        [Cell(Path(place).name), Cell(group.env), Cell(one.index), Cell(one.outcome), _whole(one.features),
         _number(one.score, 2), Cell(one.reason)]
        for place, (group, run) in searches.items() for one in tried(run)
    ]  # fmt: skip
    caption = (
        "The programs that each search asked for, by iteration/sample/attempt. A trained one's score is the mean of "
        "its last evaluations, on cases that final scores do not use. Prompts and programs stand in the transcripts."
    )
    heads = ("search", "env", "program", "outcome", "features", "score", "reason")
    return [("searches", "Searches", table("search-table", caption, heads, rows, "features|score"))]


def _llm(groups: Sequence[Group], at: Path) -> list[Section]:
    runs = [(group, run) for group, run in _each(groups) if run.llm]
    if not runs:
        return []
    heads = ("method and agent", "env", "seed", "model", "calls", "prompt tokens", "answer tokens", "USD",
             "calls without price", "failed attempts", "unusable answers", "failed refreshes")  # fmt: skip
    caption = (
        "Calls, tokens and dollars of each run. Failed attempts brought no answer and were made again; unusable "
        "answers could not be read and were asked for again; a failed refresh had no usable answer in the end."
    )
    usage = table("llm-table", caption, heads, [_llm_row(*one) for one in runs],
                  "seed|calls|prompt tokens|answer tokens|USD|calls without price")  # fmt: skip
    texts = _texts(runs, at)
    return [("llm", "LLM: cost and failures", usage), ("transcripts", "LLM: what it read and answered", texts)]


def _llm_row(group: Group, run: RunRecord) -> list[Cell]:
    usage, method = run.llm or {}, (run.result or {}).get("llm_explorer", {})
    refreshes = f"{method['failed_refreshes']} of {method['refreshes']}" if method else ""
    return [
        _named(group), Cell(group.env), _whole(run.seed), Cell(str(usage.get("model"))), _whole(usage["calls"]),
        _whole(usage["prompt_tokens"]), _whole(usage["completion_tokens"]), _dollars([dollars(usage)]),
        _whole(usage["calls_without_price"]), _reasons(usage["failures"]), _reasons(method.get("rejected", {})),
        Cell(refreshes),
    ]  # fmt: skip


def _reasons(counts: dict[str, int]) -> Cell:
    return Cell(", ".join(f"{reason} {n}x" for reason, n in counts.items()) or "none")


def _texts(runs: Sequence[tuple[Group, RunRecord]], at: Path) -> str:
    parts = [f'<p class="quiet">{LIMITS}</p><noscript>To unfold them needs JavaScript.</noscript>']
    room, number = MAX_TRANSCRIPTS_MB * 1e6, count()
    for group, run in runs:
        title = _title(group, run)
        try:
            data = llm_data(run)
        except (DamagedFile, ReplayError, KeyError, TypeError, ValueError) as error:
            parts.append(f'<p class="notice">{escape(title)}: no transcript to show ({escape(str(error))})</p>')
            continue
        text = json.dumps(data).replace("<", "\\u003c")  # so that no text can end the script element
        if data is None:
            continue
        if len(text) > room:
            link = _link(run.path / "llm.jsonl", at, "llm.jsonl")
            parts.append(f"<p>{escape(title)}: beyond {MAX_TRANSCRIPTS_MB} MB in all, see {link}</p>")
            continue
        room -= len(text)
        name = f"transcript-{next(number)}"
        parts.append(f'<h3>{escape(title)}</h3><script type="application/json" id="{name}">{text}</script>')
        if data["episodes"]:
            parts.append(_unfold("episodes", name, f"Episode by episode: {data['n_episodes']:,} answers"))
        parts.append(_unfold("transcript", name, f"Transcript: {data['n_calls']:,} calls"))
    return "".join(parts)


def _unfold(build: str, source: str, summary: str) -> str:
    return f'<details data-build="{build}" data-from="{source}"><summary>{escape(summary)}</summary></details>'


# --- configurations and versions --------------------------------------------------------------------------------------


def _configurations(groups: Sequence[Group]) -> str:
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
        rows += [[Cell(key), Cell(plots.shortened(value, 120)), Cell(_few(names))] for value, names in who.items()]
    told = table("configuration-table", "What differs between settings: each value, and who has it.",
                 ("key", "value", "settings"), rows)  # fmt: skip
    whole = "".join(
        f"<details><summary>{escape(g.label)} · {escape(g.env)}</summary>"
        f"<pre>{escape(json.dumps(g.runs[0].config, indent=2, ensure_ascii=False))}</pre></details>"
        for g in groups
    )
    return f"{told if rows else '<p>All runs have the same configuration but for their seeds.</p>'}{whole}"


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _versions(groups: Sequence[Group], at: Path) -> str:
    runs = [run for _, run in _each(groups)]
    names = sorted({name for run in runs for name in run.packages})
    kinds: defaultdict[tuple, list[RunRecord]] = defaultdict(list)
    for run in runs:
        kinds[(run.code or "unknown", *(run.packages.get(name) or "—" for name in names))].append(run)
    rows = []
    for (code, *versions), made in kinds.items():
        patches = sorted(made[0].path.glob("code*.patch"))
        links = ", ".join(_link(patch, at, patch.name) for patch in patches)
        cell = Cell(html=escape(code) + (f" ({links})" if links else ""))
        rows.append([cell, _whole(len(made)), *(Cell(version) for version in versions)])
    caption = "What the runs were last started with. code+letters: a commit and what differed from it, as a patch."
    return table("versions-table", caption, ("code", "runs", *names), rows, "runs")
