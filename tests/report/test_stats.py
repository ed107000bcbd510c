"""Statistics over runs: rliable's numbers, intervals that cover, and nothing missing that goes unsaid."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from llmrl.report import stats
from llmrl.report.tables.means import average, mean_of

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "rliable.json").read_text())["cases"]
TASKS = {"freeway": [1.0, 2.0, 4.0], "alien": [10.0, 30.0, 20.0]}


def labelled(rows):
    return {f"task{i}": row for i, row in enumerate(rows)}


def shape(case):
    return f"{len(case['x'])} tasks x {len(case['x'][0])} runs"


# --- against rliable --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN, ids=shape)
@pytest.mark.parametrize("statistic", sorted(stats.STATISTICS))
def test_point_estimates_are_rliables(case, statistic):
    assert stats.aggregate(labelled(case["x"]), statistic) == pytest.approx(case[statistic], rel=0, abs=1e-12)


@pytest.mark.parametrize("case", GOLDEN, ids=shape)
def test_probability_of_improvement_is_rliables_with_ties_and_unequal_runs(case):
    x, y = labelled(case["x"]), labelled(case["y"])
    found = stats.probability_of_improvement(x, y, seed=0, repetitions=100).value
    assert found == pytest.approx(case["probability_of_improvement"], rel=0, abs=1e-12)
    assert stats.probability_of_improvement(y, x, seed=0, repetitions=10).value == pytest.approx(1 - found)


@pytest.mark.parametrize("case", GOLDEN, ids=shape)
def test_performance_profile_is_rliables(case):
    profile, low, high = stats.performance_profile(labelled(case["x"]), case["thresholds"], seed=0)
    np.testing.assert_allclose(profile, case["profile"], rtol=0, atol=1e-12)
    assert (low <= profile).all() and (profile <= high).all()


@pytest.mark.parametrize("case", GOLDEN, ids=shape)
def test_bootstrap_interval_is_rliables_up_to_chance(case):
    found = stats.bootstrap(labelled(case["x"]), "iqm", seed=0, repetitions=20_000)
    width = case["iqm_interval"][1] - case["iqm_interval"][0]
    np.testing.assert_allclose([found.low, found.high], case["iqm_interval"], atol=0.05 * width)


# --- intervals --------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    first, again, other = (stats.bootstrap(TASKS, "mean", seed=s, repetitions=500) for s in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.low <= first.value <= first.high
    assert first.n == {"freeway": 3, "alien": 3}


def test_chunks_change_neither_draws_nor_memory_bound(monkeypatch):
    whole = stats.bootstrap(TASKS, "median", seed=3, repetitions=1000)
    monkeypatch.setattr(stats, "CHUNK", 6 * 7)
    seen, median = [], stats.STATISTICS["median"]
    monkeypatch.setitem(stats.STATISTICS, "median", lambda rows, sizes: seen.append(rows.size) or median(rows, sizes))
    assert stats.bootstrap(TASKS, "median", seed=3, repetitions=1000) == whole
    assert max(seen) == 6 * 7


def test_resampling_stays_within_tasks():
    """Stratified: with constant tasks nothing varies, however far apart the tasks are."""
    constant = {"a": [1.0, 1.0, 1.0], "b": [100.0, 100.0, 100.0]}
    for statistic in stats.STATISTICS:
        found = stats.bootstrap(constant, statistic, seed=0, repetitions=200)
        assert found.low == pytest.approx(found.value) == pytest.approx(found.high)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    trials = 400
    t_covers = bootstrap_covers = 0
    for _ in range(trials):
        few = stats.student(rng.normal(5, 2, 3))
        t_covers += few.low <= 5 <= few.high
        many = stats.bootstrap({t: rng.normal(5, 2, 10) for t in "abcd"}, "mean", seed=0, repetitions=300)
        bootstrap_covers += many.low <= 5 <= many.high
    assert 0.92 <= t_covers / trials <= 0.98
    assert 0.88 <= bootstrap_covers / trials <= 0.97


def test_welch_is_scipys_and_a_published_spread_counts():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(3, 1, 5), rng.normal(2, 3, 4)
    expected = scipy_stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    for found in (
        stats.welch(ours, theirs),
        mean_of("ours", ours).minus(theirs.mean(), spread=theirs.std(ddof=1), n=4),
    ):
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    exact, mean = (
        mean_of("ours", ours).minus(2.0, None, None),
        scipy_stats.ttest_1samp(ours, 0).confidence_interval(0.95),
    )
    assert (exact.low, exact.high) == pytest.approx((mean.low - 2, mean.high - 2))


def test_equal_runs_have_a_difference_of_no_width():
    found = mean_of("ours", [21.0, 21.0, 21.0]).minus(20.5, None, None)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "estimate",
    [
        stats.student([3.0]),
        stats.student([3.0, 4.0]),
        mean_of("ours", [3.0, 4.0]).minus(1.0, None, None),
        mean_of("ours", [3.0, 4.0, 5.0]).minus(1.0, spread=0.1, n=2),
        stats.welch([3.0, 4.0], [1.0, 2.0, 3.0]),
        stats.welch([3.0, 4.0, 5.0], [1.0, 2.0]),
        stats.bootstrap({"a": [3.0, 4.0], "b": [1.0, 2.0, 3.0]}, "iqm", seed=0),
        average([mean_of("a", [3.0, 4.0]), mean_of("b", [1.0, 2.0, 3.0])]).estimate(2),
        stats.probability_of_improvement({"a": [3.0, 4.0]}, {"a": [1.0, 2.0, 3.0]}, seed=0),
    ],
)
def test_below_three_runs_there_is_a_value_and_no_interval(estimate):
    assert np.isfinite(estimate.value)
    assert estimate.low is None and estimate.high is None


# --- unequal n, missing scores, wrong input ---------------------------------------------------------------------------


def test_tasks_count_alike_whatever_their_number_of_runs():
    """Repeating the runs of one task changes no statistic, except that rliable's IQM cuts whole runs at equal n."""
    few = {"a": [0.0, 0.2, 0.4, 0.9], "b": [1.0, 1.5, 0.7, 3.0]}
    more = few | {"b": few["b"] * 3}
    for statistic in stats.STATISTICS:
        assert stats.aggregate(more, statistic) == pytest.approx(stats.aggregate(few, statistic))


def test_weighted_iqm_against_runs_written_out_by_weight():
    """3 runs of a and 2 of b weigh 2 and 3 each in a pool of 12, of which 3 are cut at both ends."""
    a, b = [5.0, 1.0, 3.0], [2.0, 4.0]
    written_out = sorted(a * 2 + b * 3)[3:9]
    assert stats.aggregate({"a": a, "b": b}, "iqm") == pytest.approx(np.mean(written_out))


def test_nan_is_refused_with_task_and_run_or_dropped_and_counted():
    holed = TASKS | {"freeway": [1.0, np.nan, 4.0]}
    with pytest.raises(ValueError, match="freeway: run 1 "):
        stats.aggregate(holed, "mean")
    assert stats.aggregate(holed, "mean", missing="drop") == pytest.approx((2.5 + 20) / 2)
    found = stats.bootstrap(holed, "mean", seed=0, repetitions=50, missing="drop")
    assert found.dropped == 1 and found.n == {"freeway": 2, "alien": 3}
    against = stats.student([1.0, np.nan, 3.0], missing="drop")
    assert against.value == 2 and against.dropped == 1 and against.n == {"ours": 2}


@pytest.mark.parametrize(
    "scores, message",
    [
        ({}, "no task"),
        ({"a": []}, "a: no run"),
        ({"a": [np.nan]}, "a: no run"),
        ({"a": [1.0, np.inf]}, "a: run 1 .* infinite"),
        ({"a": [[1.0, 2.0]]}, "one score per run"),
    ],
)
def test_what_has_no_statistic_is_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        stats.aggregate(scores, "iqm", missing="drop")


def test_other_tasks_cannot_be_compared():
    with pytest.raises(ValueError, match="alien, pong"):
        stats.probability_of_improvement({"pong": [1.0]}, {"alien": [1.0]}, seed=0)


def test_human_normalised():
    reference = {"freeway": (0.0, 29.6), "pong": (-20.7, 14.6)}
    normal = stats.human_normalised({"freeway": [0.0, 29.6, 14.8], "pong": [-20.7]}, reference)
    assert normal["freeway"].tolist() == [0, 1, 0.5] and normal["pong"].tolist() == [0]
    with pytest.raises(ValueError, match="hopper"):
        stats.human_normalised({"hopper": [1.0]}, reference)
