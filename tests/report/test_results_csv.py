"""results/<paper>/<table>.csv: what ships of the finished runs gives the same table as the runs themselves."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from lab_tables import OTHER_CODE, cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)

CALLED = {"model": "gpt-4o-mini", "calls": 4, "usd": 0.25, "prompt_tokens": 10, "completion_tokens": 2}
NORMALISED = {
    "rows": {"CartPole": []},
    "columns": {"Sparse": ["agent.gamma=0.1"], "Human": ["agent.gamma=0.3"],
                "LLM": ["method=llm_explorer"],
                "LLM, normalised": {"set": ["method=llm_explorer"], "metric": "normalised"},
                "LLM, tokens": {"set": ["method=llm_explorer"], "metric": "prompt_tokens"}},
    "normalise": {"low": "Sparse", "high": "Human"},
    "claims": [{"text": "It helps.", "better": "LLM", "than": "Sparse", "over": "each"}],
}  # fmt: skip
SHIPPED = Path("results/lab/small.csv")


def made(lab, **changes):
    cells = cells_of(lab(**NORMALISED | changes))
    for cell, values in zip(cells[:3], ((0.0, 2.0, 4.0), (20.0, 22.0, 24.0), (10.0, 11.0, 12.0))):
        for run, value in zip(cell.runs, values):
            make_run(run, [value], greedy=value, llm=CALLED if cell.column == "LLM" else None,
                     code=OTHER_CODE if value == 12 else {"version": "0.1.0", "commit": "c" * 40})  # fmt: skip
    return cells


def shown(out: str) -> str:
    return out[: out.index("written:")]


def test_the_table_from_results_is_that_from_run_directories(llmrl, lab, tmp_path):
    made(lab)
    first = llmrl("table", "lab/small", "--to", "results")
    written = {suffix: (tmp_path / f"outputs/tables/lab/small.{suffix}").read_text() for suffix in ("md", "tex", "csv")}
    assert first.code == 0 and "45.0" in first.out and "‡" in first.out and "Reproduced: It helps." in first.out
    shutil.rmtree("outputs")
    second = llmrl("table", "lab/small", "--from", "results")
    assert shown(second.out) == shown(first.out) and second.code == 0
    assert written == {s: (tmp_path / f"outputs/tables/lab/small.{s}").read_text() for s in written}


def test_a_line_says_what_made_the_run_and_an_unfinished_run_has_none(llmrl, lab):
    cells = cells_of(lab(seeds=[0, 1]))
    make_run(cells[0].runs[0], [7.0])
    make_run(cells[0].runs[1], status="INTERRUPTED")
    assert llmrl("table", "lab/small", "--to", "results").code == 0
    (line,) = list(csv.DictReader(SHIPPED.open()))
    assert (line["row"], line["column"], line["seed"], line["value"]) == ("CartPole", "DQN", "0", "7.0")
    assert line["run"] == cells[0].runs[0].id and line["score"] == "train_last_100" and line["unit"] == "env_steps"
    assert line["command"].startswith("llmrl run ") and line["command"].endswith("seed=0") and "cccc" in line["code"]
    out = llmrl("table", "lab/small", "--from", "results").out
    assert "1 of 2 runs" in out and "llmrl plan lab/small --row CartPole --column DQN --run" in out


def test_runs_of_another_machine_stay_in_the_file(llmrl, lab):
    cells = cells_of(lab())
    make_run(cells[0].runs[0], [1.0])
    assert llmrl("table", "lab/small", "--to", "results").code == 0
    shutil.rmtree("outputs")
    for run, value in zip(cells[0].runs[1:], (2.0, 6.0)):
        make_run(run, [value])
    assert llmrl("table", "lab/small", "--to", "results").code == 0
    out = llmrl("table", "lab/small", "--from", "results", "--row", "CartPole", "--column", "DQN").out
    assert "3.00" in out and "1 cells: 1 filled." in out


def test_numbers_by_another_score_stand_beside_until_the_run_is_made_anew(llmrl, lab):
    run = cells_of(lab(seeds=[0]))[0].runs[0]
    make_run(run, [7.0], greedy=3.0)
    of_dqn = ["table", "lab/small", "--row", "CartPole", "--column", "DQN"]
    for score in ("best", "train_last_100"):
        assert llmrl("table", "lab/small", "--score", score, "--to", "results").code == 0
    assert "3.0" in llmrl(*of_dqn, "--score", "best", "--from", "results").out
    assert "7.0" in llmrl(*of_dqn, "--from", "results").out
    shutil.rmtree("outputs")
    make_run(run, [8.0], greedy=4.0, code=OTHER_CODE)
    assert llmrl("table", "lab/small", "--to", "results").code == 0
    assert "8.0" in llmrl(*of_dqn, "--from", "results").out
    assert "1 without this number" in llmrl(*of_dqn, "--score", "best", "--from", "results").out


@pytest.mark.parametrize("change, told", [
    (("CartPole,DQN,0", "CartPole,DQM,0"), "line 2: there is no column `DQM`. Did you mean `DQN`?"),
    ((",7.0,", ",seven,"), "line 4: value is not a number: 'seven'"),
    (("row,", "rows,"), "line 1: the columns must be row,column,seed"),
])  # fmt: skip
def test_a_wrong_line_is_named(llmrl, lab, change, told):
    cells = cells_of(lab(seeds=[0]))
    make_run(cells[0].runs[0], [7.0])
    assert llmrl("table", "lab/small", "--to", "results").code == 0
    SHIPPED.write_text(SHIPPED.read_text().replace(*change))
    done = llmrl("table", "lab/small", "--from", "results")
    assert done.code == 2 and told in done.err and str(SHIPPED) in done.err


def test_lines_that_are_cut_at_a_terminals_width_are_said_to_be(llmrl, lab, monkeypatch):
    made(lab)
    assert "go on in the files below" not in llmrl("table", "lab/small").out
    terminal = SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("llmrl.commands.columns.sys", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    out = llmrl("table", "lab/small").out
    assert "Lines that end in … go on in the files below" in out
    assert max(len(line) for line in out.splitlines() if line.startswith("  CartPole")) == 60
