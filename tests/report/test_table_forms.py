"""How a table looks: the state of each cell, one number format, what the caption says, LaTeX that fits its column."""

import re
import shutil
import subprocess

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from lab_tables import cells_of, lines, make_run, written_lab  # noqa: F401 (the fixture lab)
from test_tables import ALIEN, made

from llmrl.report.tables import digits, render
from llmrl.report.tables.latex import escaped, latex

EVALUATED = {"score": "mean_last_3", "columns": {
    "DQN": ["method=vanilla"], "DQN, sampled": {"set": ["method=vanilla"], "evaluation_set": "sampled"}}}  # fmt: skip


def test_without_a_run_the_published_numbers_stand_and_the_next_command_fills_a_cell(llmrl, lab):
    lab(title="Alien & co.")
    out = llmrl("table", "llm_explorer/m_and_k", "--row", "Alien", "--column", "DQN", "--column", "M=100,K=1",
                "--seeds", "0-1", "--set", "llm=scripted")  # fmt: skip
    assert out.code == 0 and out.err == ""
    assert re.search(r"Alien +DQN +missing +0\.26\n", out.out) and "2 cells: 2 missing." in out.out
    command = "llmrl plan llm_explorer/m_and_k --row Alien --column DQN --seeds 0,1 --set llm=scripted --run"
    assert f"  {command}\n" in out.out
    words = command.split()[1:-1]
    assert "2 runs: 2 missing." in llmrl(*words).out  # the cell's, and no other's


def test_the_command_of_a_normalised_cell_makes_what_it_is_normalised_by(llmrl, lab):
    columns = {"low": ["agent.gamma=0.1"], "high": ["agent.gamma=0.2"],
               "x": {"set": ["agent.gamma=0.3"], "metric": "normalised"}}  # fmt: skip
    lab(rows={"Cart Pole": []}, columns=columns, normalise={"low": "low", "high": "high"}, score="last")
    out = llmrl("table", "lab/small", "--column", "x").out
    assert "llmrl plan lab/small --row 'Cart Pole' --column low --column high --column x --run" in out


def test_nothing_is_to_be_done_where_all_cells_are_filled(llmrl, lab):
    for cell in (cells := cells_of(lab(seeds=[0]))):
        for run in cell.runs:
            make_run(run)
    out = llmrl("table", "lab/small").out
    assert f"{len(cells)} cells: {len(cells)} filled.\n" in out and "llmrl plan" not in out


def test_columns_without_content_are_left_out(lab):
    table = lab(seeds=[0], score="last")
    cells = cells_of(table)
    for cell in cells:
        make_run(cell.runs[0])
    assert render.long(made(table, cells))[0] == ("row", "column", "ours", "n", "env_steps_total", "USD")


def test_one_number_format_in_a_table():
    for values, n in (([], 2), ([0.0], 2), ([0.002], 4), ([0.5, 0.01], 2), ([99, 0.1], 2), ([-5000], 1), ([2e4], 0)):
        assert digits.decimals(values) == n
    assert digits.decimals([400.0], [245.7]) == 1 and digits.decimals([400.0], [0.26, 69.71]) == 2
    assert digits.decimals([0.5], [0.83]) == 2 and digits.decimals([0.5], [0.83, 0.2654]) == 3  # as the paper's
    assert digits.number(-1234.5, 1, sign=True) == "-1,234.5" and digits.interval(1, None, 2) == ""


def test_the_caption_says_which_columns_are_evaluated_with_sampled_actions(lab):
    table = lab(**EVALUATED, seeds=[0])
    cells = cells_of(table)
    for cell in cells[::2]:
        path = make_run(cell.runs[0])
        rows = [{"env_steps": 60, "policy": policy, "return_mean": v, "returns": [v, v]}
                for policy, v in (("greedy", 5.0), ("sampled", 7.0))]  # fmt: skip
        (path / "eval.jsonl").write_text(lines(*rows))
    shown = made(table, cells)
    assert [cell.ours.value for cell in shown.cells] == [5.0, 7.0, 5.0, 7.0]
    (sentence,) = [text for text in shown.caption if text.startswith("Evaluations: ")]
    assert sentence.startswith("Evaluations: greedy actions, but sampled actions in “DQN, sampled”, apart from")
    alone = lab(**EVALUATED | {"columns": {"sampled": {"set": [], "evaluation_set": "sampled on hard"}}}, seeds=[0])
    assert any(text.startswith("Evaluations: sampled actions, ") for text in made(alone, cells_of(alone)).caption)


def test_rows_by_columns_are_turned_around_where_that_is_narrower(lab):
    columns = {f"discount {i}": [f"agent.gamma=0.{i}"] for i in range(1, 9)}
    table = lab(seeds=[0], columns=columns)
    filled = made(table, cells_of(table))
    assert render.compact(filled, 200)[0] == ("", *columns)
    assert render.compact(filled, 40)[0] == ("", "CartPole", "Acrobot")


def test_latex_has_the_published_numbers_claims_as_notes_and_a_label(lab):
    table = lab(**ALIEN, published="4", claims=[])
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (300.0, 400.0, 800.0)):
        make_run(run, [value])
    tex = latex(made(table, cells, "llm_explorer/any"))
    assert r"\label{tab:llm_explorer/any}" in tex and "\\toprule" in tex
    assert r"3.94 $\pm$ 9.5" in tex and "(0.26)" in tex
    assert escaped("a_b & 5 % †") == r"a\_b \& 5 \% \dag{}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here: TeX was not compiled")
def test_latex_compiles_and_stays_within_the_column(lab, tmp_path):
    """Two columns a page: nothing is wider than one of them, with many columns, long labels and every mark."""
    columns = {f"a rather long name, {i} % | <{i}>": [f"agent.gamma=0.{i}"] for i in range(1, 9)}
    claim = {"text": "It helps & costs 5 %.", "better": list(columns)[0], "than": list(columns)[1], "over": "each"}
    table = lab(columns=columns, claims=[claim], notes=["† § ¶ ‖ ‡ * ± – “quoted” … x_y ~ ^ \\ {#} $"])
    cells = cells_of(table)
    for number, cell in enumerate(cells[:3]):
        for run in cell.runs:
            make_run(run, [10_000.0 * number + run.seed], llm={"model": "scripted", "calls": 1, "usd": 0.0})
    wide = made(table, cells)
    text = ("\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
            f"Table \\ref{{tab:lab/small}}.\n{latex(wide)}\\end{{document}}\n")  # fmt: skip
    (tmp_path / "page.tex").write_text(text)
    done = subprocess.run(["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    print(done.stdout)
    assert "Overfull" not in done.stdout and "Undefined control" not in done.stdout


def test_a_table_shows_what_this_machine_cannot_make_as_missing(llmrl, lab):
    """A column of a local model whose weights are not here; the others are composed."""
    model = ["method=llm_explorer", "llm=local", "llm.weights=none.gguf"]
    for cell in cells_of(lab(seeds=[0]))[::2]:
        make_run(cell.runs[0])
    lab(seeds=[0], columns={"DQN": ["method=vanilla"], "LLM": model})
    done = llmrl("table", "lab/small")
    assert done.code == 0 and "4 cells: 2 filled, 2 missing.\n" in done.out
    assert "Not on this machine: “LLM”. llm.weights: none.gguf does not exist." in done.out
