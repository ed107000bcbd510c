"""Tables, differences and claims by hand-computed values."""

import json
import math

import pytest
from lab_tables import cells_of, make_run, written_lab  # noqa: F401
from scipy import stats as distributions
from test_tables import ALIEN, made

from llmrl.report.store import files
from llmrl.report.tables import claims
from llmrl.report.tables.definition import Claim


def test_a_summarys_difference_is_ours_minus_theirs_with_its_interval_moved(lab):
    table = lab(**ALIEN, published="4", summary={"Alien": "mean"}, seeds=[0, 1, 2])
    cells = cells_of(table)
    for run, value in zip(cells[0].runs, (300.0, 400.0, 800.0)):
        make_run(run, [value])
    (found,) = made(table, cells, "llm_explorer/any").summaries
    normal = [100 * (value - 227.8) / (7127.7 - 227.8) for value in (300, 400, 800)]
    assert found.ours.value == pytest.approx(sum(normal) / 3)
    theirs = 0.26
    assert found.difference.value == pytest.approx(sum(normal) / 3 - theirs)
    assert found.difference.low == pytest.approx(found.ours.low - theirs)
    assert found.difference.high == pytest.approx(found.ours.high - theirs)
    assert found.n == 3


# --- claims: four rows in which the base is always 1, so that a difference is also a relative gain --------------------

ROWS = list("abcd")


def verdict(claim, scores, rows):
    return claims.judge(claim, claims.means_of(scores), rows).verdict


def judged(shift, over="mean", spread=1.0):
    """Each row's runs have mean 1 + shift and standard deviation `spread`; n = 3."""
    ours = [1 + shift - spread, 1 + shift, 1 + shift + spread]
    scores = {(row, "ours"): ours for row in ROWS} | {(row, "base"): [1.0, 1.0, 1.0] for row in ROWS}
    return verdict(Claim("t", "ours", "base", over), scores, ROWS)


def test_the_interval_over_rows_is_as_wide_as_their_independence_makes_it():
    """v = 1/16 * 4 * 1/3, 8 degrees of freedom: the half width is 0.666, not 1.33 (root-4 wider) nor 0.333."""
    half = distributions.t.ppf(0.975, 8) * math.sqrt(1 / 12)
    assert half == pytest.approx(0.6657, abs=1e-4)
    assert judged(half + 0.01) == "reproduced" and judged(half - 0.01) == "undecided"
    assert judged(-half + 0.01) == "undecided" and judged(-half - 0.01) == "not reproduced"


def test_the_interval_of_one_row_is_students_where_the_other_side_does_not_vary():
    half = distributions.t.ppf(0.975, 2) * math.sqrt(1 / 3)
    assert judged(half + 0.01, "each") == "reproduced" and judged(half - 0.01, "each") == "undecided"
    assert judged(-half - 0.01, "most") == "not reproduced" and judged(-half + 0.01, "most") == "undecided"


@pytest.mark.parametrize(("above", "below", "each", "most"), [
    (4, 0, "reproduced", "reproduced"), (3, 0, "undecided", "reproduced"), (2, 0, "undecided", "undecided"),
    (3, 1, "not reproduced", "reproduced"), (2, 2, "not reproduced", "not reproduced"),
    (0, 1, "not reproduced", "undecided"), (0, 2, "not reproduced", "not reproduced"), (0, 0, "undecided", "undecided"),
    (1, 1, "not reproduced", "undecided"),
])  # fmt: skip
def test_each_and_most_count_rows_that_are_surely_above_and_surely_below(above, below, each, most):
    kinds = [5.0] * above + [-5.0] * below + [0.0] * (4 - above - below)
    scores = {(row, "ours"): [1 + k - 0.1, 1 + k, 1 + k + 0.1] for row, k in zip(ROWS, kinds)}
    scores |= {(row, "base"): [0.9, 1.0, 1.1] for row in ROWS}
    for over, expected in (("each", each), ("most", most)):
        assert verdict(Claim("t", "ours", "base", over), scores, ROWS) == expected


def test_a_claim_of_some_rows_is_judged_on_these_and_wants_three_runs_of_each():
    scores = {(row, who): [1.0, 2.0, 3.0] for row in "ab" for who in ("ours", "base")}
    scores |= {("a", "ours"): [11.0, 12.0, 13.0]}
    assert verdict(Claim("t", "ours", "base", "mean", ("a",)), scores, ["a", "b"]) == "reproduced"
    assert verdict(Claim("t", "base", "ours", "mean", ("a",)), scores, ["a", "b"]) == "not reproduced"
    scores["a", "base"] = [1.0, 2.0]
    assert verdict(Claim("t", "ours", "base", "mean", ("a",)), scores, ["a", "b"]) == "undecided"
    assert verdict(Claim("t", "ours", "base", "mean", ("b",)), scores, ["a", "b"]) == "undecided"


# --- numbers of evaluations -------------------------------------------------------------------------------------------


def test_the_number_of_a_run_is_of_the_evaluations_that_are_asked_for(tmp_path):
    """The last, the best, or the mean of the last k greedy ones, of one suite and of one rule of success."""
    rows = [{"env_steps": 0, "policy": "random", "returns": [900.0, 900.0], "success": [True, True]}]
    for at, returns, success, hard in (
        (0, [1.0, 3.0], [False, True], [False, False]), (10, [8.0, 10.0], [True, True], [False, True]),
        (20, [3.0, 5.0], [False, False], [False, False]), (30, [5.0, 5.0], [True, False], [True, True]),
    ):  # fmt: skip
        rows.append({"env_steps": at, "policy": "greedy", "returns": returns, "success": success})
        rows.append({"env_steps": at, "policy": "greedy on hard", "returns": [0.5, 0.5 + at], "success": hard})
    path = tmp_path / "eval.jsonl"
    path.write_text("".join(json.dumps(row | {"return_mean": sum(row["returns"]) / 2}) + "\n" for row in rows))

    def number(key, suite, kind, k=5):
        return files.evaluated(path, key, suite, kind, k)

    assert [number("returns", None, kind) for kind in ("last", "best")] == [5.0, 9.0]
    assert [number("returns", None, "mean_last_k", k) for k in (1, 2, 3, 4, 9)] == [5.0, 4.5, 6.0, 5.0, 5.0]
    assert [number("success", None, kind) for kind in ("last", "best", "mean_last_k")] == [0.5, 1.0, 0.5]
    assert number("success", None, "mean_last_k", 2) == 0.25
    assert [number("success", "hard", kind) for kind in ("last", "best")] == [1.0, 1.0]
    assert number("returns", "hard", "last") == 15.5 and number("success", "hard", "mean_last_k", 3) == 0.5
    assert number("returns", "easy", "last") is None and number("returns", None, "train_last_100") is None


def test_the_speed_of_a_run_is_the_median_of_what_was_measured(tmp_path):
    path = tmp_path / "timing.jsonl"
    speeds = [0.0, 10.0, 30.0, 20.0, 1000.0, 25.0]
    path.write_text("".join(json.dumps({"env_steps": 1, "env_steps_per_s": speed}) + "\n" for speed in speeds))
    assert files.steps_per_s(path) == 25.0
    path.write_text('{"updates": 1, "updates_per_s": 4.0}\n{"event": "x"}\n{"updates_per_s": 0.0}\n')
    assert files.steps_per_s(path) == 4.0
    assert files.steps_per_s(tmp_path / "none") is None
