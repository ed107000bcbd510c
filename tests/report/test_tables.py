"""A table is made from runs on disk: the right runs, the right number of each, and words where there is no number."""

import csv
import json
import math

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from lab_tables import OTHER_CODE, TABLE, cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)
from scipy import stats as scipy_stats

from llmrl.checks import ConfigError
from llmrl.report.store.loading import load
from llmrl.report.tables import claims, definition, grid, render
from llmrl.report.tables.definition import Claim
from llmrl.report.tables.fill import fill
from llmrl.report.tables.latex import latex
from llmrl.report.tables.means import average, mean_of
from llmrl.report.tables.metrics import Score

CALLED = {"model": "scripted", "calls": 4, "usd": 0.0, "prompt_tokens": 10, "completion_tokens": 2}
ALIEN = {"rows": {"Alien": ["env=atari/alien"]}, "base": ["experiment=llm_explorer/atari_dqn", "llm=gpt-4o-mini"],
         "columns": {"DQN": ["method=vanilla"]}, "metric": "human_normalised"}  # fmt: skip


def made(table, cells, name="lab/small", score=None):
    return fill(table, name, cells, grid.find(grid.runs_of(cells), load(cells[0].runs[0].outputs)), score)


def at(made, row, column):
    (cell,) = [cell for cell in (*made.cells, *made.summaries) if (cell.row, cell.column) == (row, column)]
    return cell


def test_a_cell_shows_the_mean_over_runs_with_n_and_students_interval(lab):
    table = lab()
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (1.0, 2.0, 6.0)):
        make_run(run, [value - 1, value + 1], greedy=10 * value)
    cell = at(made(table, cells), "CartPole", "DQN")
    half = scipy_stats.t.ppf(0.975, 2) * math.sqrt(7 / 3)
    assert cell.ours.value == 3 and cell.n == 3
    assert (cell.ours.low, cell.ours.high) == pytest.approx((3 - half, 3 + half))
    assert cell.last_evaluation.value == 30  # a column of its own
    assert cell.env_steps_total == 60 and cell.usd == 0


def test_a_cell_that_is_not_complete_says_what_is_missing_and_gives_no_number(lab):
    table = lab()
    cells = cells_of(table)
    make_run(cells[0].runs[0])
    make_run(cells[0].runs[1], status="INTERRUPTED")
    broken = make_run(cells[1].runs[0])
    (broken / "eval.jsonl").write_text("{no json\n")
    shown = made(table, cells)
    assert at(shown, "CartPole", "DQN").missing == "1 of 3 runs"
    assert at(shown, "CartPole", "LLM").missing == "0 of 3 runs (1 damaged)"
    assert at(shown, "Acrobot", "DQN").missing == "missing"
    assert all(cell.ours is None and cell.last_evaluation is None and cell.difference is None for cell in shown.cells)
    assert render.long(shown) == [("row", "column", "ours", "n"), ("CartPole", "DQN", "1 of 3 runs", "1"),
                                  ("CartPole", "LLM", "0 of 3 runs (1 damaged)", ""),
                                  ("Acrobot", "DQN", "missing", ""), ("Acrobot", "LLM", "missing", "")]  # fmt: skip
    assert render.compact(shown)[1:] == [("CartPole", "1 of 3 runs", "0 of 3 runs (1 damaged)"), ("Acrobot", "–", "–")]
    assert shown.states == {"filled": 0, "partial": 2, "missing": 2}
    assert (shown.next.row, shown.next.column) == ("CartPole", "DQN")  # what was begun comes first


def test_a_run_is_found_by_its_identity_in_whatever_study(lab):
    table = lab(seeds=[0])
    cells = cells_of(table)
    make_run(cells[0].runs[0], [7.0], study="another/study")
    clash = make_run(cells[1].runs[0], [9.0])  # eight equal digits, and another identity
    (clash / "identity.json").write_text(json.dumps({"seed": 0, "another": True}))
    shown = made(table, cells)
    assert at(shown, "CartPole", "DQN").ours.value == 7
    assert at(shown, "CartPole", "LLM").missing == "missing"


def test_of_two_directories_of_a_run_the_finished_one_counts(lab):
    table = lab(seeds=[0])
    cells = cells_of(table)
    make_run(cells[0].runs[0], [1.0], study="a", status="INTERRUPTED")
    make_run(cells[0].runs[0], [2.0], study="b")
    make_run(cells[0].runs[0], [3.0], study="c", status="FAILED")
    assert at(made(table, cells), "CartPole", "DQN").ours.value == 2


def test_the_scripted_llm_and_mixed_code_are_marked(lab):
    table = lab(seeds=[0, 1])
    cells = cells_of(table)
    for run in cells[0].runs:
        make_run(run)
    make_run(cells[1].runs[0], llm=CALLED)
    make_run(cells[1].runs[1], llm=CALLED, code=OTHER_CODE)
    shown = made(table, cells)
    assert at(shown, "CartPole", "DQN").marks == ""
    assert at(shown, "CartPole", "LLM").marks == "†‡"
    assert [sentence[0] for sentence in shown.caption if sentence[0] in "†‡"] == ["†", "‡"]


def test_a_method_that_asked_nobody_is_not_marked_as_scripted(lab):
    table = lab(seeds=[0])
    cells = cells_of(table)
    make_run(cells[1].runs[0], llm=CALLED | {"calls": 0})
    assert at(made(table, cells), "CartPole", "LLM").marks == ""


@pytest.mark.parametrize("score, value", [("train_last_100", 2.0), ("last", 5.0), ("best", 5.0), ("mean_last_3", 5.0)])
def test_the_score_is_a_choice_that_the_caption_names(lab, score, value):
    table = lab(seeds=[0])
    cells = cells_of(table)
    make_run(cells[0].runs[0], [1.0, 3.0], greedy=5.0)
    shown = made(table, cells, score=score)
    assert at(shown, "CartPole", "DQN").ours.value == value
    assert Score.parse(score).text in shown.caption[1]


def test_a_column_of_training_returns_stands_beside_that_of_evaluations(lab):
    """Of the same runs, whatever the table's score is of."""
    table = lab(seeds=[0, 1], score="last", columns={
        "greedy": {"set": ["method=vanilla"]}, "training": {"set": ["method=vanilla"], "metric": "training_return"},
    })  # fmt: skip
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (2.0, 4.0)):
        make_run(run, [100.0] * 20 + [value] * 100, greedy=7.0)
    shown = made(table, cells)
    assert at(shown, "CartPole", "greedy").ours.value == 7
    assert at(shown, "CartPole", "training").ours.value == 3 and at(shown, "CartPole", "training").n == 2


def test_an_unknown_score_is_refused(lab):
    with pytest.raises(ConfigError, match="no `mean`.*mean_last_<k>"):
        Score.parse("mean")
    with pytest.raises(ConfigError, match="mean_last_0"):
        Score.parse("mean_last_0")


def test_published_numbers_stand_beside_the_same_quantity_only(lab):
    table = lab(**ALIEN, published="4", seeds=[0, 1])
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (300.0, 400.0)):
        make_run(run, [value], greedy=1000.0)
    cell = at(made(table, cells, "llm_explorer/any"), "Alien", "DQN")
    normal = [100 * (value - 227.8) / (7127.7 - 227.8) for value in (300, 400)]
    assert cell.ours.value == pytest.approx(sum(normal) / 2)
    assert cell.published.value == 0.26 and "2505.15293" in cell.published.source
    assert cell.difference.value == pytest.approx(sum(normal) / 2 - 0.26)
    greedy = made(table, cells, "llm_explorer/any", score="last")
    assert at(greedy, "Alien", "DQN").published is None and at(greedy, "Alien", "DQN").difference is None
    assert any("No published numbers" in sentence for sentence in greedy.caption)


def test_a_published_number_that_nobody_has_seen_is_called_so(lab):
    summary = {"human-normalised score": "mean"}
    table = lab(**ALIEN | {"columns": {"GPT-4o": []}}, published="2", summary=summary, seeds=[0])
    cells = cells_of(table)
    make_run(cells[0].runs[0])
    filled = made(table, cells, "llm_explorer/any")
    summary = at(filled, "human-normalised score", "GPT-4o")
    assert summary.published.value is None and summary.difference is None
    assert "published" not in render.long(filled)[0]  # no cell has one
    assert "The paper's numbers for these cells are not known to us." in filled.caption


def test_a_summary_over_rows_wants_every_row(lab):
    table = lab(summary={"all": "mean"}, seeds=[0, 1])
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (1.0, 3.0)):
        make_run(run, [value])
    assert at(made(table, cells), "all", "DQN").missing == "1 of 2 rows"
    for run, value in zip(cells[2].runs, (5.0, 7.0)):
        make_run(run, [value])
    assert at(made(table, cells), "all", "DQN").ours.value == 4


def test_a_column_may_show_another_number_of_the_same_runs(lab):
    columns = {"usd": {"set": ["method=llm_explorer"], "metric": "usd"},
               "hours": {"set": ["method=llm_explorer"], "metric": "hours"},
               "tokens": {"set": ["method=llm_explorer"], "metric": "prompt_tokens"}}  # fmt: skip
    table = lab(columns=columns, rows={"CartPole": []}, seeds=[0])
    cells = cells_of(table)
    assert len(grid.runs_of(cells)) == 1
    make_run(cells[0].runs[0], llm=CALLED | {"model": "m", "usd": 0.5}, env_steps_per_s=0.5)
    shown = made(table, cells)
    assert [cell.ours.value for cell in shown.cells] == [0.5, 60 / 0.5 / 3600, 10]


def test_the_last_tenth_stands_beside_the_last_hundred_episodes(lab):
    table = lab(rows={"CartPole": []}, columns={"DQN": ["method=vanilla"]})
    cells = cells_of(table)
    for run in cells[0].runs:  # 60 env_steps; make_run ends an episode at every one: the last tenth begins after 54
        make_run(run, [0.0] * 54 + [6.0 + run.seed] * 6)
    filled = made(table, cells)
    cell = at(filled, "CartPole", "DQN")
    assert cell.ours.value == pytest.approx(0.7) and cell.last_tenth.value == 7.0 and cell.last_tenth.low is not None
    assert "7.00 [4.52, 9.48]" in render.long(filled)[1]
    alone = made(table, cells, score="train_last_tenth")
    assert at(alone, "CartPole", "DQN").ours.value == 7.0


def test_a_mean_of_returns_over_tasks_is_judged_by_relative_gains(lab):
    claim = {"text": "It helps.", "better": "LLM", "than": "DQN", "over": "mean"}
    table = lab(claims=[claim])
    cells = cells_of(table)
    for cell, base in zip(cells, (1000.0, 1100.0, 10.0, 5.0)):
        for run in cell.runs:
            make_run(run, [base * (1 + 0.01 * run.seed)])
    (verdict,) = made(table, cells).verdicts
    assert verdict.verdict == "not reproduced" and verdict.numbers.startswith("-20% [")


def test_tokens_without_a_price_are_no_dollars(lab):
    table = lab(columns={"LLM": {"set": ["method=llm_explorer"], "metric": "usd"}}, rows={"CartPole": []}, seeds=[0])
    cells = cells_of(table)
    make_run(cells[0].runs[0], llm=CALLED | {"calls_without_price": 1})
    assert at(made(table, cells), "CartPole", "LLM").missing == "0 of 1 runs (1 without this number)"


# --- claims -----------------------------------------------------------------------------------------------------------

CLAIM = Claim("it helps", "ours", "base", "mean")
HIGH, LOW = [10.0, 11.0, 12.0], [1.0, 2.0, 3.0]


@pytest.mark.parametrize("ours, base, verdict", [
    (HIGH, LOW, "reproduced"),
    (LOW, HIGH, "not reproduced"),
    ([1.0, 5.0, 9.0], [0.0, 4.0, 9.0], "undecided"),
    (HIGH[:2], LOW, "undecided"),
    (HIGH, [], "undecided"),
])  # fmt: skip
def test_a_claim_is_judged_by_the_interval_of_the_difference(ours, base, verdict):
    judged = claims.judge(CLAIM, claims.means_of({("a", "ours"): ours, ("a", "base"): base}), ["a"])
    assert judged.verdict == verdict and "95 % interval of the difference" in judged.rule
    if min(len(ours), len(base)) < 3:
        assert "too few finished runs" in judged.numbers


def test_over_one_row_the_interval_is_welchs():
    import numpy as np

    x, y = np.array([3.0, 4.0, 8.0, 9.0]), np.array([1.0, 2.0, 2.5])
    found = average([mean_of("ours", x) - mean_of("base", y)])
    expected = scipy_stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (found.value, *found.interval) == pytest.approx((x.mean() - y.mean(), expected.low, expected.high))


@pytest.mark.parametrize("over, third, verdict", [
    ("each", HIGH, "undecided"), ("each", [20.0, 21.0, 22.0], "not reproduced"), ("most", HIGH, "reproduced"),
])  # fmt: skip
def test_a_claim_about_every_row_and_about_most(over, third, verdict):
    scores = {(row, "ours"): HIGH for row in "abc"} | {(row, "base"): LOW for row in "ab"} | {("c", "base"): third}
    assert claims.judge(Claim("t", "ours", "base", over), claims.means_of(scores), list("abc")).verdict == verdict


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_markdown_latex_and_csv(llmrl, lab, tmp_path):
    claim = {"text": "It helps.", "better": "LLM", "than": "DQN", "over": "mean", "rows": ["CartPole"]}
    cells = cells_of(lab(claims=[claim]))
    for cell, base in zip(cells[:2], (1.0, 100.0)):
        for run in cell.runs:
            make_run(run, [base + run.seed], llm=CALLED if base > 1 else None)
    done = llmrl("table", "lab/small")
    assert done.code == 0 and "101.0†" in done.out
    assert "Reproduced: It helps. LLM minus DQN: +99.0 [+96.7, +101.3]." in done.out
    files = {suffix: tmp_path / "outputs" / "tables" / "lab" / f"small.{suffix}" for suffix in ("md", "tex", "csv")}
    assert "| CartPole | LLM | 101.0† | [98.5, 103.5] | 3 |" in files["md"].read_text()
    assert r"101.0\dag{}" in files["tex"].read_text() and r"env\_steps" in files["tex"].read_text()
    rows = list(csv.DictReader(files["csv"].open()))
    assert [(row["row"], row["ours"], row["missing"]) for row in rows] == [
        ("CartPole", "2.0", ""), ("CartPole", "101.0", ""), *[("Acrobot", "", "missing")] * 2]  # fmt: skip
    before = [file.read_bytes() for file in files.values()]
    assert llmrl("table", "lab/small").code == 0
    assert [file.read_bytes() for file in files.values()] == before  # no clock in it


@pytest.mark.parametrize("args, told", [
    (["lab/smal"], "Did you mean `lab/small`?"),
    (["lab/small", "--column", "DQM"], "Did you mean `DQN`?"),
    (["lab/small", "--row", "CartPol"], "Did you mean `CartPole`?"),
    (["lab/small", "--score", "first"], "There are: train_last_100, last, best"),
    (["lab/small", "--set", "agent.gama=1"], "agent.gam"),
    (["lab/small", "--to", "results"], "no finished run has a number for results/lab/small.csv"),
    (["lab/small", "--from", "results"], "there is no results/lab/small.csv"),
    (["lab/small", "--from", "results", "--set", "seed=1"], "--from and --to take no --set"),
    ([], "name a table"),
])  # fmt: skip
def test_what_cannot_be_shown_ends_with_2_and_says_why(llmrl, lab, args, told):
    lab()
    done = llmrl("table", *args)
    assert done.code == 2 and told in done.err and not done.out


def test_a_published_number_says_how_it_was_read(lab):
    table = lab(rows={"Alien": ["env=atari/alien"]}, columns={"DQN": ["method=vanilla"]}, published="4_raw", seeds=[0],
                base=["experiment=llm_explorer/atari_dqn", "llm=gpt-4o-mini"])  # fmt: skip
    cells = cells_of(table)
    make_run(cells[0].runs[0])
    shown = made(table, cells, "llm_explorer/any")
    assert "245.7¶" in render.long(shown)[1] and r"245.7\P{}" in latex(shown)
    assert any(sentence.startswith("¶ published number derived: computed") for sentence in shown.caption)
    assert next(csv.DictReader(render.as_csv(shown).splitlines()))["published_seen"] == "derived"


@pytest.mark.parametrize("changes, told", [
    ({"colums": {}}, "colums"),
    ({"columns": {"DQN": ["method=vanilla"], "LLM": {"set": ["method=llm_explorer"], "metric": "usd"}},
      "claims": [{"text": "t", "better": "LLM", "than": "DQN", "over": "mean"}]},
     "compares usd (LLM) with return (DQN)"),
    ({"metric": "points"}, "metric"),
    ({"claims": [{"text": "t", "better": "LLN", "than": "DQN", "over": "mean"}]}, "Did you mean `LLM`?"),
])  # fmt: skip
def test_a_wrong_table_file_is_named(lab, changes, told):
    with pytest.raises(ConfigError, match=r"small\.yaml") as error:
        lab(**changes)
    assert told in str(error.value)


def test_a_corrupt_run_is_named_and_not_counted(llmrl, lab):
    cells = cells_of(lab(seeds=[0]))
    make_run(cells[0].runs[0])
    bad = make_run(cells[1].runs[0])
    (bad / "metrics.jsonl").write_text('{"kind": "episode", "env_st\n')
    done = llmrl("table", "lab/small")
    assert done.code == 0 and "metrics.jsonl, line 1" in done.err and "0 of 1 runs (1 damaged)" in done.out


def test_every_key_of_a_table_is_in_the_documentation():
    import dataclasses

    from conftest import ROOT

    text = (ROOT / "docs" / "tables.md").read_text()
    assert set(TABLE) <= {field.name for field in dataclasses.fields(definition.Table)}
    for field in dataclasses.fields(definition.Table):
        assert f"`{field.name}`" in text
