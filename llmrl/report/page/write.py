"""One html page about a study: tables, plots, videos, LLM cost and transcripts, configurations, versions.

The page is a single file that asks no network for anything. Whatever stands in a run's files is text to it: escaped in
html.py, text nodes in page.js, and a content security policy allows no script but that one.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from llmrl import __version__
from llmrl.checks import ConfigError, raised
from llmrl.contracts.report import Section
from llmrl.papers import asked, reports
from llmrl.report.figures.kinds import kinds
from llmrl.report.page.configurations import configurations, versions
from llmrl.report.page.llm import llm
from llmrl.report.page.summary import notices, runs, summary
from llmrl.report.page.videos import videos
from llmrl.report.store.groups import Group, gather
from llmrl.report.store.record import RunRecord
from llmrl.runs.files import writing

HERE = Path(__file__).parent


def write(records: Sequence[RunRecord], out: Path, title: str) -> Path:
    """Writes the page to `out`. Raises ConfigError where every run is damaged."""
    groups = gather(records)
    if not groups:
        damage = "\n".join(damage for record in records for damage in record.damage)
        raise ConfigError(f"all of these runs are damaged, there is nothing to show:\n{damage}")
    out.parent.mkdir(parents=True, exist_ok=True)
    sections = _sections(records, groups, out.absolute().parent)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title), lead=escape(_lead(records)),
        nav="".join(f'<li><a href="#{s.name}">{escape(s.heading)}</a></li>' for s in sections),
        sections="\n".join(map(_section, sections)),
        foot=f"Made by llmrl {__version__} from the files of the runs; it needs no network.",
        style=(HERE / "page.css").read_text(encoding="utf-8"), script=script,
        script_hash="sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    with writing(out):
        out.write_bytes(page.encode("utf-8", "replace"))  # an answer may hold lone surrogates
    return out


def _lead(records: Sequence[RunRecord]) -> str:
    states = Counter("DAMAGED" if r.damaged else r.status for r in records)
    studies = ", ".join(sorted({r.study for r in records}))
    return f"{len(records)} runs ({', '.join(f'{n} {s}' for s, n in sorted(states.items()))}) of study {studies}"


def _section(section: Section) -> str:
    return f'<section id="{section.name}">\n<h2>{escape(section.heading)}</h2>\n{section.html}\n</section>'


def _sections(records: Sequence[RunRecord], groups: Sequence[Group], at: Path) -> list[Section]:
    papers, problems = reports()
    figures, of_figures = _figures(groups)
    of_papers, failed = asked(papers, "section", lambda report: report.sections(groups))
    noticed = [*notices(records, groups), *problems, *of_figures, *failed]
    noticed_html = "".join(f'<p class="notice">{escape(text)}</p>' for text in noticed)
    return [
        Section("summary", "Summary", noticed_html + summary(groups)), *figures, *videos(groups, at),
        Section("runs", "Runs", runs(groups, at)), *of_papers, *llm(groups, at, papers),
        Section("configuration", "Configurations", configurations(groups)),
        Section("versions", "Versions and code", versions(groups, at)),
    ]  # fmt: skip


def _figures(groups: Sequence[Group]) -> tuple[list[Section], list[str]]:
    """All kinds of figures that these runs have, and why others cannot be drawn."""
    drawn, problems = [], []
    for name, kind in kinds().items():
        caption = escape(kind.caption)
        try:
            svg = _svg(kind.draw(groups))
        except ConfigError:
            continue  # these runs do not have it
        except Exception as error:  # noqa: BLE001 (a paper's figure may be anybody's code)
            problems.append(f"the figure {name} cannot be drawn: {raised(error)}")
            continue
        drawn.append(f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{svg}"></figure>'
                     f'<p class="quiet">{caption}</p>')  # fmt: skip
    return [Section("plots", "Plots", "".join(drawn))] if drawn else [], problems


def _svg(figure: Any) -> str:
    import matplotlib

    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "llmrl"}):
        figure.savefig(held, format="svg", metadata={"Date": None})
    return base64.b64encode(held.getvalue()).decode()
