"""The page's LLM part: calls, cost and failures of each run, and the transcripts that unfold."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path

from llmrl.checks import raised
from llmrl.contracts.report import PaperReport, Section, times
from llmrl.llm.transcript import ReplayError
from llmrl.report.page.acceptance import acceptance
from llmrl.report.page.html import Cell, each_run, link, named, table, title_of, whole
from llmrl.report.page.summary import dollars_cell
from llmrl.report.page.transcripts import LIMITS, details_of, llm_data
from llmrl.report.store.groups import Group
from llmrl.report.store.record import RunRecord, dollars

MAX_TRANSCRIPTS_MB = 30  # all of them; what is more is linked


def llm(groups: Sequence[Group], at: Path, papers: Mapping[str, PaperReport]) -> list[Section]:
    """Three sections, where any run has asked an LLM: usage, answers by model, transcripts."""
    runs = [(group, run) for group, run in each_run(groups) if run.llm]
    if not runs:
        return []
    heads = ("method and agent", "env", "seed", "model", "calls", "prompt tokens", "answer tokens", "USD",
             "calls without price", "failed attempts", "unusable answers", "other failures")  # fmt: skip
    caption = (
        "Calls, tokens and dollars of each run. Failed attempts brought no answer and were made again; unusable "
        "answers could not be read and were asked for again; other failures are the method's own."
    )
    usage = table("llm-table", caption, heads, [_row(group, run, papers) for group, run in runs],
                  "seed|calls|prompt tokens|answer tokens|USD|calls without price")  # fmt: skip
    return [
        Section("llm", "LLM: cost and failures", usage),
        Section("answers", "LLM: answers by model", acceptance(runs)),
        Section("transcripts", "LLM: what it read and answered", _transcripts(runs, at, papers)),
    ]


def _row(group: Group, run: RunRecord, papers: Mapping[str, PaperReport]) -> list[Cell]:
    usage = run.llm or {}
    return [
        named(group), Cell(group.env), whole(run.seed), Cell(str(usage.get("model"))), whole(usage["calls"]),
        whole(usage["prompt_tokens"]), whole(usage["completion_tokens"]), dollars_cell([dollars(usage)]),
        whole(usage["calls_without_price"]), _listed(times(usage["failures"])),
        _listed(times(usage.get("rejected", {}))), _listed(_failures(run, papers)),
    ]  # fmt: skip


def _failures(run: RunRecord, papers: Mapping[str, PaperReport]) -> list[str]:
    found: list[str] = []
    for paper, report in papers.items():
        try:
            found += report.failures(run.result or {})
        except Exception as error:  # noqa: BLE001 (it may be anybody's code)
            found.append(f"the report of {paper} failed: {raised(error)}")
    return found


def _listed(texts: Sequence[str]) -> Cell:
    return Cell(", ".join(texts) or "none")


def _transcripts(runs: Sequence[tuple[Group, RunRecord]], at: Path, papers: Mapping[str, PaperReport]) -> str:
    parts = [f'<p class="quiet">{LIMITS}</p><noscript>Unfolding needs JavaScript.</noscript>']
    room, number = MAX_TRANSCRIPTS_MB * 1e6, count()
    for group, run in runs:
        title = title_of(group, run)
        try:
            data = llm_data(run)
        except (ReplayError, KeyError, TypeError, ValueError) as error:
            parts.append(_notice(f"{title}: no transcript to show ({error})"))
            continue
        if data is None:
            continue
        data["details"], problems = details_of(run, papers)
        text = json.dumps(data).replace("<", "\\u003c")  # so that no text can end the script element
        if len(text) > room:
            file = link(run.path / "llm.jsonl", at, "llm.jsonl")
            parts.append(f"<p>{escape(title)}: beyond {MAX_TRANSCRIPTS_MB} MB in all, see {file}</p>")
            continue
        room -= len(text)
        name = f"transcript-{next(number)}"
        parts.append(f'<h3>{escape(title)}</h3><script type="application/json" id="{name}">{text}</script>')
        parts += [_notice(f"{title}: {problem}") for problem in problems]
        parts += [_unfold(f"details {i}", name, one["title"]) for i, one in enumerate(data["details"])]
        parts.append(_unfold("transcript", name, f"Transcript: {data['n_calls']:,} calls"))
    return "".join(parts)


def _notice(text: str) -> str:
    return f'<p class="notice">{escape(text)}</p>'


def _unfold(build: str, source: str, summary: str) -> str:
    return f'<details data-build="{build}" data-from="{source}"><summary>{escape(summary)}</summary></details>'
