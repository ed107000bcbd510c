"""Every interval comes from one function: Student's t at the actual n, none below three; Wilson's of shares."""

import re

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats as scipy_stats

from llmrl import intervals
from llmrl.report import stats
from llmrl.report.tables import claims
from llmrl.report.tables.definition import Claim
from llmrl.report.tables.means import average, mean_of, relative_gain


@pytest.mark.parametrize("values, told", [
    ([9.0, 10.0, 11.0], "10.0 ± 2.5"),  # 4.303 · 1 / √3
    ([9.0, 10.0], "9.5"),  # 1.96 would say ± 1.0, Student's t ± 6.4: nothing is said
    ([7.0], "7.0"),
    ([5.0] * 10, "5.0 ± 0.0"),
])  # fmt: skip
def test_a_mean_over_episodes_has_students_interval_from_three_on(values, told):
    assert intervals.mean_and_interval(values) == told


def test_the_t_interval_is_scipys_at_every_n():
    rng = np.random.default_rng(0)
    for n in (3, 5, 10, 300):
        values = rng.normal(2, 3, n)
        expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert intervals.around(values.mean(), [intervals.side(values)]) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("successes, n", [(7, 10), (0, 5), (5, 5), (97, 100)])
def test_a_share_has_wilsons_interval(successes, n):
    p, low, high = intervals.share([True] * successes + [False] * (n - successes))
    expected = scipy_stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert p == successes / n and (low, high) == pytest.approx((expected.low, expected.high))
    assert 0 <= low < high <= 1


def test_a_share_of_two_episodes_has_no_interval():
    assert intervals.share_and_interval([True, False]) == "0.50"


def test_the_mean_over_tasks_has_the_intervals_of_their_means_added_up():
    a, b = np.array([1.0, 2.0, 6.0]), np.array([10.0, 10.5, 12.0])
    found = average([mean_of("a", a), mean_of("b", b)])
    low, high = found.interval
    summed = scipy_stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)  # mean a + mean b
    assert found.value == (a.mean() + b.mean()) / 2
    assert (low, high) == pytest.approx((summed.low / 2, summed.high / 2))
    assert average([mean_of("a", a)]).interval == pytest.approx((stats.student(a).low, stats.student(a).high))


def test_nothing_else_makes_an_interval():
    made = re.compile(r"1\.96|\.ppf\(|stdtrit|ndtri|\bt\.interval")
    found = {
        str(path.relative_to(ROOT))
        for part in ("llmrl", "scripts")
        for path in (ROOT / part).rglob("*.py")
        if made.search(path.read_text())
    }
    assert found == {"llmrl/intervals.py"}


# --- claims over rows of different scales -----------------------------------------------------------------------------

ON_AVERAGE = Claim("it earns more on average", "ours", "base", "mean")


def noisy(mean):
    return mean * np.array([0.99, 1.0, 1.01])


def judged(ours, base, **options):
    rows = [f"task {i}" for i in range(len(ours))]
    scores = {(row, "ours"): noisy(m) for row, m in zip(rows, ours)}
    scores |= {(row, "base"): noisy(m) for row, m in zip(rows, base)}
    return claims.judge(ON_AVERAGE, claims.means_of(scores), rows, **options)


def test_rows_of_different_scales_are_compared_by_their_relative_gains():
    """HalfCheetah-like returns up by a tenth, a Swimmer-like one halved: on average a loss, which raw returns hide."""
    found = judged([11_000.0, 20.0], [10_000.0, 40.0], one_scale=False)
    assert found.verdict == "not reproduced"
    assert found.numbers.startswith("-20% [") and "task 0 +10%, task 1 -50%" in found.numbers
    assert "share of the second column's size" in found.rule
    assert judged([11_000.0, 20.0], [10_000.0, 40.0], one_scale=True).verdict == "reproduced"  # what it was


def test_gains_of_negative_returns_have_the_right_sign():
    found = judged([-100.0, -50.0], [-200.0, -100.0], one_scale=False)
    assert found.verdict == "reproduced" and found.numbers.startswith("+50% [")


def test_the_mean_of_relative_gains_has_the_interval_that_simulation_gives():
    rng = np.random.default_rng(0)
    trials, hits = 400, 0
    for _ in range(trials):
        pairs = [(rng.normal(130, 10, 5), rng.normal(100, 10, 5)), (rng.normal(13, 1, 5), rng.normal(10, 1, 5))]
        found = average([relative_gain(mean_of((r, 0), x), mean_of((r, 1), y)) for r, (x, y) in enumerate(pairs)])
        low, high = found.interval
        assert low < found.value < high
        hits += low <= 0.3 <= high
    assert 0.91 <= hits / trials <= 0.99


def test_a_row_whose_divisor_may_be_nothing_leaves_the_claim_undecided():
    scores = {("a", "ours"): [5.0, 6.0, 7.0], ("a", "base"): [-1.0, 0.5, 1.0]}
    scores |= {("b", "ours"): noisy(9.0), ("b", "base"): noisy(3.0)}
    found = claims.judge(ON_AVERAGE, claims.means_of(scores), ["a", "b"], one_scale=False)
    assert found.verdict == "undecided" and "no relative gain in a" in found.numbers


def test_one_row_has_one_scale():
    found = judged([3.0], [2.0], one_scale=False)
    assert found.verdict == "reproduced" and found.numbers.startswith("+1.00 [")
