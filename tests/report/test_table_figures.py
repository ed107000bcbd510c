"""A table's learning curves beside the published ones, and numbers of other evaluation cases in a table's columns."""

import json

import pytest
from command_line import in_process  # noqa: F401 (the fixture llmrl)
from lab_tables import cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)

from llmrl.checks import ConfigError
from llmrl.report.figures.table_curves import curves
from llmrl.report.published import published
from llmrl.report.store.loading import load
from llmrl.report.tables import grid
from llmrl.report.tables.fill import fill
from llmrl.runs.files import write_json

EXPLORLLM = {
    "base": ["experiment=classic/cart_pole", "budget.env_steps=60", "eval.every=20", "study=lab"],
    "rows": {"short horizon": {"curves": "curves_short_horizon"}},
    "columns": {"0": {"set": ["seed=0"], "published": "epsilon 0 %"},
                "0.2": {"set": ["agent.gamma=0.5"], "published": "epsilon 20 %"}},
    "score": "last", "seeds": [0, 1],
}  # fmt: skip


def with_evaluations(path, *means):
    rows = [{"env_steps": 20 * i, "policy": "greedy", "return_mean": m, "returns": [m]} for i, m in enumerate(means)]
    (path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def found(cells):
    return grid.find(grid.runs_of(cells), load(cells[0].runs[0].outputs))


def test_ours_and_the_published_curves_stand_side_by_side(lab):
    table = lab(**EXPLORLLM)
    cells = cells_of(table)
    for cell in cells:
        for run in cell.runs:
            with_evaluations(make_run(run), 0.0, 1.0 + run.seed, 4.0, 4.0)
    ours, theirs = curves(table, "explorllm", cells, found(cells)).axes
    assert [axes.get_title(loc="left") for axes in (ours, theirs)] == [
        "short horizon, ours",
        "short horizon, published",
    ]
    (line,) = [line for line in ours.lines if line.get_label() == "0.2"]
    assert list(line.get_xdata()) == [0, 20, 40, 60] and list(line.get_ydata()) == [0.0, 1.5, 4.0, 4.0]
    (other,) = [line for line in theirs.lines if line.get_label() == "0.2"]
    assert other.get_color() == line.get_color()
    known = published()["explorllm", "curves_short_horizon", "epsilon 20 %", "10000"]
    assert dict(zip(other.get_xdata(), other.get_ydata()))[10000] == known.value
    assert ours.get_xlim() == theirs.get_xlim() and ours.get_ylim() == theirs.get_ylim()


def test_a_column_that_is_of_no_evaluation_has_no_curve(lab):
    columns = {"plain": {"set": ["seed=0"]}, "training": {"set": ["seed=0"], "metric": "training_return"}}
    table = lab(**EXPLORLLM | {"columns": columns})
    cells = cells_of(table)
    for run in cells[0].runs:
        with_evaluations(make_run(run), 0.0, 1.0, 2.0, 2.0)
    ours = curves(table, None, cells, found(cells)).axes[0]
    assert [line.get_label() for line in ours.lines if not line.get_label().startswith("_")] == ["plain"]


def test_what_learns_nothing_is_a_level(lab):
    table = lab(**EXPLORLLM | {"columns": {"explore policy": ["method=vanilla"], "learns": ["agent.gamma=0.5"]}})
    cells = cells_of(table)
    for cell in cells:
        for run in cell.runs:
            path = make_run(run)
            with_evaluations(path, 0.5, *([1.0, 1.0, 1.0] if cell.column == "learns" else []))
            if cell.column == "explore policy":
                write_json(path / "status.json", {"status": "DONE", "env_steps": 0, "target_env_steps": 1})
    ours, theirs = curves(table, "explorllm", cells, found(cells)).axes
    level, curve = (next(x for x in ours.lines if x.get_label() == name) for name in ("explore policy", "learns"))
    assert list(level.get_ydata()) == [0.5, 0.5] and level.get_linestyle() == "--"
    assert list(curve.get_xdata()) == [0, 20, 40, 60]
    (other,) = [line for line in theirs.lines if line.get_label() == "explore policy"]
    assert set(other.get_ydata()) == {0.53}


def test_curves_are_of_what_the_table_measures(lab):
    """The rate of success on the row's own cases, where the table has that."""
    table = lab(**EXPLORLLM | {"metric": "success", "columns": {"plain": []}, "seeds": [0],
                               "rows": {"common": [], "strange": {"evaluation_set": "strange"}}})  # fmt: skip
    cells = cells_of(table)  # two rows, of the same run
    rates = {"greedy": [0.0, 1.0], "greedy on strange": [0.5, 0.75]}
    rows = [{"env_steps": 60 * i, "policy": policy, "return_mean": 9.0, "returns": [9.0] * 4,
             "success": [4 * ends[i] > n for n in range(4)]}
            for i in range(2) for policy, ends in rates.items()]  # fmt: skip
    (make_run(cells[0].runs[0]) / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = curves(table, None, cells, found(cells))
    drawn = {axes.get_title(loc="left"): list(axes.lines[0].get_ydata()) for axes in figure.axes}
    assert drawn == {"common, ours": rates["greedy"], "strange, ours": rates["greedy on strange"]}
    assert figure.axes[0].get_ylabel() == "success rate, greedy evaluation"


def test_without_an_evaluation_there_is_no_figure(lab):
    table = lab(**EXPLORLLM)
    cells = cells_of(table)
    with pytest.raises(ConfigError, match="no run of this table has an evaluation yet"):
        curves(table, "explorllm", cells, found(cells))


def test_plot_takes_a_tables_name(lab, llmrl, tmp_path):
    table = lab(**EXPLORLLM)
    for run in cells_of(table)[0].runs:
        with_evaluations(make_run(run), 0.0, 1.0, 1.0, 1.0)
    done = llmrl("plot", "lab/small")
    assert done.code == 0, done.err
    assert (tmp_path / "outputs/tables/lab/small.png").stat().st_size > 10_000
    assert llmrl("plot", "lab/small", "--row", "short horizn").code == 2
    mistyped = llmrl("plot", "lab/smal")
    assert mistyped.code == 2 and "no directory lab/smal" in mistyped.err
    assert "Did you mean `lab/small`?" in mistyped.err


def test_a_column_may_show_another_suite_of_cases(lab):
    table = lab(metric="success", score="last", seeds=[0],
                columns={"seen": ["method=vanilla"],
                         "unseen letters": {"set": ["method=vanilla"], "evaluation_set": "unseen_letters"},
                         "returns there": {"set": ["method=vanilla"], "evaluation_set": "unseen_letters",
                                           "metric": "return"},
                         "elsewhere": {"set": ["method=vanilla"], "evaluation_set": "unseen_colours"}})  # fmt: skip
    cells = cells_of(table)
    for cell in cells[::4]:
        path = make_run(cell.runs[0])
        rows = [{"policy": "greedy", "returns": [3.0, 1.0], "return_mean": 2.0, "success": [True, True]},
                {"policy": "greedy on unseen_letters", "returns": [0.5, 0.0], "return_mean": 0.25,
                 "success": [True, False]}]  # fmt: skip
        (path / "eval.jsonl").write_text("".join(json.dumps({"env_steps": 60, **row}) + "\n" for row in rows))
    shown = {c.column: c for c in fill(table, "lab/small", cells, found(cells), None).cells if c.row == "CartPole"}
    assert shown["seen"].ours.value == 1.0
    assert shown["unseen letters"].ours.value == 0.5
    assert shown["returns there"].ours.value == 0.25
    assert shown["elsewhere"].ours is None and "1 without this number" in shown["elsewhere"].missing
