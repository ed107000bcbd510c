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


def test_ours_and_the_published_curves_stand_in_one_panel(lab):
    table = lab(**EXPLORLLM)
    cells = cells_of(table)
    for cell in cells:
        for run in cell.runs:
            with_evaluations(make_run(run), 0.0, 1.0 + run.seed, 4.0, 4.0)
    figure = curves(table, "explorllm", cells, found(cells))
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "short horizon"
    (line,) = [line for line in axes.lines if line.get_label() == "0.2"]
    assert list(line.get_xdata()) == [0, 20, 40, 60] and list(line.get_ydata()) == [0.0, 1.5, 4.0, 4.0]
    (theirs,) = [other for other in axes.lines if other.get_color() == line.get_color() and other is not line]
    known = published()["explorllm", "curves_short_horizon", "epsilon 20 %", "10000"]
    assert dict(zip(theirs.get_xdata(), theirs.get_ydata()))[10000] == known.value
    labels = [text.get_text().split(",")[0] for text in figure.legends[0].get_texts()]
    assert labels == ["0", "0.2", "published"]  # in the table's order


def test_a_published_number_is_a_point_at_the_end_and_a_row_without_anything_has_no_panel(lab):
    table = lab(**EXPLORLLM | {"published": "development_100", "metric": "success", "seeds": [0],
                               "columns": {"seen": {"set": [], "published": "success, seen colours"}},
                               "rows": {"RL": [], "nothing": ["agent.gamma=0.5"]}})  # fmt: skip
    cells = cells_of(table)
    rows = [{"env_steps": 60, "policy": "greedy", "return_mean": 1.0, "returns": [1.0], "success": [True]}]
    (make_run(cells[0].runs[0]) / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (axes,) = curves(table, "explorllm", cells, found(cells)).axes
    points = [list(zip(line.get_xdata(), line.get_ydata())) for line in axes.lines if line.get_marker() == "D"]
    known = published()["explorllm", "development_100", "RL", "success, seen colours"]
    assert [(60.0, known.value)] in points


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
    (axes,) = curves(table, "explorllm", cells, found(cells)).axes
    level, curve = (next(x for x in axes.lines if x.get_label() == name) for name in ("explore policy", "learns"))
    assert list(level.get_ydata()) == [0.5, 0.5] and level.get_linestyle() == "--"
    assert list(curve.get_xdata()) == [0, 20, 40, 60]
    (theirs,) = [line for line in axes.lines if line.get_color() == level.get_color() and line is not level]
    assert set(theirs.get_ydata()) == {0.53}


def test_what_is_evaluated_once_after_training_is_a_point_with_its_interval(lab):
    other = {"set": [], "evaluation_set": "other_crops"}
    table = lab(**EXPLORLLM | {"columns": {"learns": [], "other crops": other}, "seeds": [0, 1, 2]})
    cells = cells_of(table)
    for run in cells[0].runs:
        path = make_run(run)
        with_evaluations(path, 0.5, 1.0, 1.0, 1.0)
        with (path / "eval.jsonl").open("a") as file:
            file.write(json.dumps({"policy": "greedy on other_crops", "env_steps": 60, "returns": [0.1 * run.seed],
                                   "return_mean": 0.1 * run.seed}) + "\n")  # fmt: skip
    (axes,) = curves(table, "explorllm", cells, found(cells)).axes
    (point,) = (line for line in axes.lines if line.get_label() == "other crops")
    assert (point.get_xdata(), point.get_ydata()) == ([60], pytest.approx([0.1]))
    assert point.get_marker() == "s" and point.get_linestyle() == "None"
    (interval,) = (one for one in axes.collections if len(one.get_paths()) == 1 and not one.get_facecolor().size)
    low, high = interval.get_paths()[0].vertices[:, 1]
    assert (low, high) == pytest.approx((0.1 - 0.24841, 0.1 + 0.24841), abs=1e-4)  # Student's t of n = 3


def test_with_more_columns_than_colours_each_evaluation_set_has_a_panel(lab):
    """Columns of the same runs share a colour and a name; all panels have one range."""
    columns = {}
    for name, gamma in (("a", 0.5), ("b", 0.6), ("c", 0.7), ("d", 0.8)):
        columns[name] = {"set": [f"agent.gamma={gamma}"]}
        columns[f"{name}, sampled"] = {"set": [f"agent.gamma={gamma}"], "evaluation_set": "sampled"}
    table = lab(**EXPLORLLM | {"columns": columns, "seeds": [0]})
    cells = cells_of(table)
    for number, cell in enumerate(cells[::2]):
        path = make_run(cell.runs[0])
        with_evaluations(path, 0.5, *[1.0 + number] * 3)
        with (path / "eval.jsonl").open("a") as file:
            for step in (0, 20, 40, 60):
                file.write(
                    json.dumps({"policy": "sampled", "env_steps": step, "returns": [9.0], "return_mean": 9.0}) + "\n"
                )
    figure = curves(table, None, cells, found(cells))
    greedy, sampled = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["short horizon", "short horizon, sampled"]
    assert [line.get_label() for line in sampled.lines] == list("abcd")
    assert [line.get_color() for line in sampled.lines] == [line.get_color() for line in greedy.lines[:4]]
    assert greedy.get_ylim() == sampled.get_ylim() and greedy.get_xlim() == sampled.get_xlim()
    assert [text.get_text().split(",")[0] for text in figure.legends[0].get_texts()] == list("abcd")


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
    assert drawn == {"common": rates["greedy"], "strange": rates["greedy on strange"]}
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
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
