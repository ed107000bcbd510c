"""A paper below LLMRL_PATH brings its report: a line, a metric, a figure, a section, details, numbers and a table, with
no edit of the package; and one that cannot be used takes no other one down."""

import json
import re

import pytest
from command_line import in_process  # noqa: F401 (the fixture `llmrl`)
from conftest import SHORT
from own_directory import own_directory  # noqa: F401 (the fixture `own`)

from llmrl.checks import ConfigError
from llmrl.papers import offered, reports
from llmrl.report.page.write import write
from llmrl.report.published import COLUMNS
from llmrl.report.store.groups import select
from llmrl.report.tables.metrics import checked

METHOD = '''
"""Plain training that names a reward."""

from dataclasses import dataclass

from llmrl.checks import Positive
from llmrl.contracts.method import Method


@dataclass(frozen=True)
class Config:
    scale: Positive


class Own(Method):
    def run(self, ctx):
        agent = ctx.agent()
        result = ctx.train(agent, agent.explorer())
        return result | {"own_paper": {"candidates": 4, "correlation": 0.5 * ctx.cfg.method.scale}}


METHOD = Own
'''
REPORT = '''
"""What the paper adds."""

import numpy as np

from llmrl.checks import ConfigError
from llmrl.contracts.report import Column, Details, FigureKind, Metric, PaperReport, Section
from llmrl.report.figures.style import panels_for
from llmrl.report.page.html import Cell, number, table


def of(record):
    return (record.result or {}).get("own_paper", {})


def scatter(groups):
    """The reward's correlation over the last return, a point per run, with Pearson's r."""
    points = [(of(run)["correlation"], run.evals.means[-1]) for group in groups for run in group.finished if of(run)]
    if not points:
        raise ConfigError("no run of the paper")
    x, y = np.array(points).T
    figure, panels = panels_for(["all"], width=4, height=3)
    panels["all"].plot(x, y, "o")
    r = np.corrcoef(x, y)[0, 1] if len(points) > 1 and x.std() and y.std() else float("nan")
    panels["all"].set_title(f"Pearson r = {r:.2f}, n = {len(points)}", loc="left")
    return figure


class Own(PaperReport):
    metrics = {"own_correlation": Metric("Pearson r", lambda record: of(record).get("correlation"), one_scale=True)}
    figures = {"correlation": FigureKind(scatter, "How the rewards correlate.")}

    def summary(self, result):
        found = result.get("own_paper")
        return [("reward", f"{found['candidates']} candidates")] if found else []

    def failures(self, result):
        return ["1 of 4 candidates failed"] if "own_paper" in result else []

    def sections(self, groups):
        rows = [[Cell(group.name), number(of(run)["correlation"], 2)]
                for group in groups for run in group.runs if of(run)]
        return [Section("rewards", "Rewards", table("rewards-table", "Each run.", ("run", "r"), rows, "r"))]

    def details(self, record):
        return Details("Rewards: 1", [Column("code"), Column("weights", bars=("speed", "<b>"))], [["x<b>", [0.5, 1]]])


REPORT = Own
'''
TINY = ["method=own_paper", "agent=own_agent", "env=own/corridor", "agent.hidden=[16]", "agent.batch_size=8",
        "agent.learning_starts=10", "agent.random_steps=5", "budget.env_steps=60", "eval.every=20", *SHORT]  # fmt: skip
TABLE = {
    "title": "Correlations", "base": TINY, "rows": {"Corridor": []},
    "columns": {"Own": [], "Double": ["method.scale=2"]}, "seeds": [0], "score": "last",
    "metric": "own_correlation", "published": "1",
}  # fmt: skip
NUMBER = {"paper": "own_paper", "table": "1", "row": "Corridor", "column": "Own", "value": "0.25", "seen": "verbatim",
          "source": "own"}  # fmt: skip


@pytest.fixture
def paper(own):
    """The directory of the fixture `own`, with a paper in it."""
    files = {
        "methods/own_paper/method.py": METHOD, "methods/own_paper/report.py": REPORT,
        "methods/own_paper/published.csv": f"{','.join(COLUMNS)}\n{','.join(NUMBER.get(c, '') for c in COLUMNS)}\n",
        "conf/method/own_paper.yaml": "scale: 1.0  # of the reward\n",
        "conf/table/own_paper/table.yaml": json.dumps(TABLE),
    }  # fmt: skip
    for name, text in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    return own


def test_a_paper_of_ones_own_is_in_console_table_figures_and_page(paper, llmrl, tmp_path):
    done = llmrl("run", *TINY)
    assert done.code == 0, done.err
    assert "reward             4 candidates" in done.out
    assert llmrl("run", *TINY, "method.scale=2").code == 0

    table = llmrl("table", "own_paper/table")
    assert table.code == 0, table.err
    assert "Numbers: Pearson r." in table.out
    assert re.search(r"Corridor +Own +0\.50 +1 +0\.25 +\+0\.25", table.out), table.out
    assert re.search(r"Corridor +Double +1\.00 +1", table.out), table.out

    plotted = llmrl("plot", "outputs")
    assert plotted.code == 0 and (tmp_path / "outputs/plots/correlation.png").stat().st_size > 5_000
    assert llmrl("plot", "outputs", "--kind", "correlatio").err.strip().endswith("Did you mean `correlation`?")

    assert llmrl("report", "outputs").code == 0
    page = (tmp_path / "outputs/report.html").read_text()
    assert '<section id="rewards">' in page and "How the rewards correlate." in page


def test_details_unfold_beside_a_transcript_as_text(paper, tmp_path):
    from made_runs import answered, make_run

    make_run(tmp_path, llm=answered(1, [0.5, 0.5]))
    page = write(select([tmp_path]), tmp_path / "report.html", "own").read_text()
    assert '"bars": ["speed", "\\u003cb>"]' in page and '{"cells": ["x\\u003cb>", [0.5, 1]]}' in page
    assert 'data-build="details 0"' in page or 'data-build="details 1"' in page


@pytest.mark.parametrize("text, problem", [
    ("import nothing_of_this_name\n", "ModuleNotFoundError"),
    ("REPORT = 3\n", "it must export its class: REPORT ="),
])  # fmt: skip
def test_a_report_that_cannot_be_used_is_a_notice_and_the_others_stay(paper, llmrl, tmp_path, text, problem):
    from made_runs import make_run

    (paper / "methods/own_paper/report.py").write_text(text)
    make_run(tmp_path / "outputs")
    found, problems = reports()
    assert {"lesr", "llm_explorer", "kalm"} <= set(found) and len(problems) == 1
    assert "own_paper/report.py" in problems[0] and problem in problems[0]
    plotted = llmrl("plot", "outputs", "--kind", "bars")
    assert plotted.code == 0 and problem in plotted.err
    assert llmrl("report", "outputs").code == 0
    assert problem in (tmp_path / "outputs/report.html").read_text()
    table = llmrl("table", "own_paper/table")
    assert table.code == 2 and "no metric `own_correlation`" in table.err and problem in table.err
    assert llmrl("plan", "own/table").code == 0


def test_a_report_that_fails_is_a_notice(paper, llmrl, tmp_path, capfd):
    from made_runs import answered, make_run

    from llmrl.runs.console import print_result

    broken = "\n\n    ".join(f"def {name}(self, _):\n        raise KeyError('gone')"
                             for name in ("summary", "failures", "sections", "details"))  # fmt: skip
    (paper / "methods/own_paper/report.py").write_text(
        "from llmrl.contracts.report import FigureKind, PaperReport\n\n"
        "class Own(PaperReport):\n    figures = {'scatter': FigureKind(lambda groups: groups[9], '')}\n"
        f"    {broken}\n\n"
        "REPORT = Own\n"
    )
    run = make_run(tmp_path / "outputs", llm=answered(1, [0.5, 0.5]))
    print_result(run, {"env_steps": 1, "updates": 1, "episodes": 1}, title="Done")
    assert "note               the report of own_paper failed: KeyError: 'gone'" in capfd.readouterr().out
    page = write(select([tmp_path / "outputs"]), tmp_path / "report.html", "own").read_text()
    plotted = llmrl("plot", "outputs")
    assert plotted.code == 0 and "scatter: cannot be drawn: IndexError" in plotted.out
    for notice in ("no section from", "the figure scatter cannot be drawn", "no details from", "of own_paper failed"):
        assert notice in page


def test_a_metric_that_fails_is_named(paper, llmrl):
    file = paper / "methods/own_paper/report.py"
    file.write_text(file.read_text().replace('of(record).get("correlation")', 'of(record)["r"]'))
    assert llmrl("run", *TINY).code == 0
    done = llmrl("table", "own_paper/table")
    assert done.code == 2 and "metric own_correlation of" in done.err and "KeyError: 'r'" in done.err


def test_a_metric_that_is_not_there_is_an_error_with_the_nearest(own):
    with pytest.raises(ConfigError, match="no metric `outside_workbenc`. Did you mean `outside_workbench`"):
        checked("outside_workbenc")


def test_two_with_one_name_are_refused():
    with pytest.raises(ConfigError, match="b/report.py: `x` is taken by a"):
        offered({"y": 0}, {"a": {"x": 1}, "b": {"x": 2}})
    with pytest.raises(ConfigError, match="a/report.py: `y` is taken by llmrl"):
        offered({"y": 0}, {"a": {"y": 1}})
