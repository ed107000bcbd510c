"""metric: normalised, by hand: 100 (x - mean low) / |mean high - mean low| of a row's own runs, with the variance of
all three means."""

import math

import numpy as np
import pytest
from lab_tables import cells_of, make_run, written_lab  # noqa: F401 (the fixture lab)
from scipy import stats as distributions
from test_tables import at, made

from llmrl.checks import ConfigError
from llmrl.report.tables.means import mean_of, normalised

SPARSE, METHOD, HUMAN = (0.0, 2.0, 4.0), (10.0, 11.0, 12.0), (20.0, 22.0, 24.0)
TABLE = {
    "rows": {"CartPole": []},
    "columns": {"Sparse": ["agent.gamma=0.1"], "Method": ["agent.gamma=0.2"], "Human": ["agent.gamma=0.3"]},
    "score": "last", "metric": "normalised", "normalise": {"low": "Sparse", "high": "Human"},
}  # fmt: skip


def filled(lab, *scores, **changes):
    """The table whose cells' runs have these last evaluations, row by row."""
    table = lab(**TABLE | changes)
    cells = cells_of(table)
    for cell, values in zip(cells, scores):
        for run, value in zip(cell.runs, values):
            if not run.path.exists():
                make_run(run, greedy=value)
    return made(table, cells)


def test_a_score_is_a_share_of_the_way_from_one_column_to_the_other(lab):
    """l = 2, h = 22, w = 20: the method's 11 is 45 %. var v = (1/3 + 0.55² · 4/3 + 0.45² · 4/3) / 20²."""
    cell = at(filled(lab, SPARSE, METHOD, HUMAN), "CartPole", "Method")
    parts = [1 / 3, 0.55**2 * 4 / 3, 0.45**2 * 4 / 3]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    half = 100 * distributions.t.ppf(0.975, freedom) * math.sqrt(sum(parts)) / 20
    assert half == pytest.approx(12.35, abs=0.01)  # 2.462 · √1.0067 · 5 %
    assert cell.ours.value == pytest.approx(45) and cell.n == 3
    assert (cell.ours.low, cell.ours.high) == pytest.approx((45 - half, 45 + half))
    assert cell.values == pytest.approx((40, 45, 50)) and cell.last_evaluation is None  # it is `ours`


def test_the_two_columns_themselves_are_0_and_100_exactly(lab):
    shown = filled(lab, SPARSE, METHOD, HUMAN)
    for column, value in (("Sparse", 0), ("Human", 100)):
        ours = at(shown, "CartPole", column).ours
        assert (ours.value, ours.low, ours.high) == pytest.approx((value, value, value))
    assert any("100 (x - mean Sparse) / |mean Human - mean Sparse|" in sentence for sentence in shown.caption)


def test_where_low_is_the_larger_one_less_is_still_negative(lab):
    """l = 22, h = 2, |h - l| = 20: the method's 11 is -55 %."""
    shown = filled(lab, HUMAN, METHOD, SPARSE)
    assert [at(shown, "CartPole", c).ours.value for c in ("Sparse", "Method", "Human")] == pytest.approx([0, -55, -100])


def test_another_column_of_the_same_runs_is_the_same_runs(lab):
    """Their derivatives add up: high's own normalised score does not vary, whatever its column is called."""
    columns = TABLE["columns"] | {"Human again": ["agent.gamma=0.3"]}
    ours = at(filled(lab, SPARSE, METHOD, HUMAN, columns=columns), "CartPole", "Human again").ours
    assert (ours.low, ours.high) == pytest.approx((100, 100))


@pytest.mark.parametrize("sparse, human, why", [
    ((0.0, 20.0, 40.0), HUMAN, "normalise: mean Human - mean Sparse may be 0 ([-"),
    (SPARSE[:2], HUMAN, "normalise: Sparse has 2 of 3 runs"),
    (SPARSE, (), "normalise: Human has no run"),
])  # fmt: skip
def test_without_a_sure_divisor_there_is_no_number_and_no_verdict(lab, sparse, human, why):
    claim = {"text": "It helps.", "better": "Method", "than": "Sparse", "over": "mean"}
    shown = filled(lab, sparse, METHOD, human, claims=[claim])
    cell = at(shown, "CartPole", "Method")
    assert cell.ours is None and cell.missing.startswith(why) and cell.values == ()
    (verdict,) = shown.verdicts
    assert verdict.verdict == "undecided" and "normalise: " in verdict.numbers


def test_two_runs_have_no_interval_and_so_no_divisor(lab):
    shown = filled(lab, SPARSE[:2], METHOD[:2], HUMAN[:2], seeds=[0, 1])
    assert at(shown, "CartPole", "Method").missing == (
        "normalise: mean Human - mean Sparse may be 0 (fewer than 3 runs)"
    )


def test_a_column_may_show_the_return_beside_it(lab):
    columns = TABLE["columns"] | {"Method": {"set": ["agent.gamma=0.2"], "metric": "normalised"}}
    shown = filled(lab, SPARSE, METHOD, HUMAN, columns=columns, metric="return")
    values = [at(shown, "CartPole", column).ours.value for column in columns]
    assert values == pytest.approx([2, 45, 22])


def test_what_the_table_measures_is_normalised(lab):
    columns = TABLE["columns"] | {"Method": {"set": ["agent.gamma=0.2"], "metric": "normalised"}}
    table = lab(**TABLE | {"columns": columns, "metric": "usd"})
    cells = cells_of(table)
    for cell, values in zip(cells, (SPARSE, METHOD, HUMAN)):
        for run, value in zip(cell.runs, values):
            make_run(run, greedy=7.0, llm={"model": "m", "calls": 1, "usd": value})
    shown = made(table, cells)
    cell = at(shown, "CartPole", "Method")
    assert cell.ours.value == pytest.approx(45) and cell.last_evaluation is None
    assert any("x: USD;" in sentence for sentence in shown.caption)


def test_claims_and_means_over_rows_are_on_one_scale(lab):
    """CartPole: 45 % of 20. Acrobot: 45 % of 2000. The mean is 45 %, where raw returns would be Acrobot's alone."""
    rows = {"CartPole": [], "Acrobot": ["env=classic/acrobot"]}
    claims = [{"text": "It helps.", "better": "Method", "than": "Sparse", "over": "mean"},
              {"text": "It is better than people.", "better": "Method", "than": "Human", "over": "each"}]  # fmt: skip
    large = [tuple(100 * value for value in values) for values in (SPARSE, METHOD, HUMAN)]
    shown = filled(lab, SPARSE, METHOD, HUMAN, *large, claims=claims, summary={"mean": "mean", "IQM": "iqm"},
                   rows=rows)  # fmt: skip
    helps, people = shown.verdicts
    assert helps.verdict == "reproduced" and helps.numbers.startswith("+45.0 [") and "share of the" not in helps.rule
    assert people.verdict == "not reproduced" and "CartPole -55.0 [" in people.numbers
    parts = 2 * [1 / 3, 0.55**2 * 4 / 3, 0.45**2 * 4 / 3]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    half = 100 * distributions.t.ppf(0.975, freedom) * math.sqrt(sum(parts)) / 20 / 2
    mean = at(shown, "mean", "Method").ours
    assert (mean.value, mean.low, mean.high) == pytest.approx((45, 45 - half, 45 + half))
    assert any("as if these means were exact" in sentence for sentence in shown.caption)


def test_the_interval_is_right_in_95_of_100_simulations():
    rng = np.random.default_rng(0)
    hits, trials = 0, 400
    for _ in range(trials):
        low, x, high = (mean_of(name, rng.normal(mean, 3, 5)) for name, mean in (("l", 0), ("x", 15), ("h", 30)))
        ends = normalised(x, low, high).interval
        hits += ends[0] <= 50 <= ends[1]
    assert 0.92 <= hits / trials <= 0.98


@pytest.mark.parametrize("changes, message", [
    ({"normalise": None}, "normalised needs normalise: {low: <column>, high: <column>}"),
    ({"normalise": {"low": "Sparse", "high": "Humn"}}, "normalise: column: there is no `Humn`. Did you mean `Human`?"),
    ({"metric": "normalized"}, "there is no metric `normalized`. Did you mean `normalised`?"),
])  # fmt: skip
def test_a_wrong_key_is_named(lab, changes, message):
    with pytest.raises(ConfigError, match=r"small\.yaml: ") as error:
        lab(**TABLE | changes)
    assert message in str(error.value)
