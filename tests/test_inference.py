"""Statistics against scipy's tests on samples, and Holm's correction against what it is defined by."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reports.inference import holm, one_of, t_test, welch


def summary(sample):
    return np.mean(sample), np.std(sample, ddof=1), len(sample)


@pytest.fixture(params=range(5))
def samples(request):
    rng = np.random.default_rng(request.param)
    n_a, n_b = rng.integers(2, 11, size=2)
    return rng.normal(2.0, 0.3, n_a), rng.normal(2.1 + 0.2 * request.param, 0.1, n_b)


def test_a_mean_s_interval_and_test_are_scipys(samples):
    for sample in samples:
        ours, theirs = t_test(*summary(sample - 2)), stats.ttest_1samp(sample - 2, 0)
        low, high = theirs.confidence_interval(0.95)
        assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9)
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_welch_is_scipys(samples):
    a, b = samples
    ours, theirs = welch(summary(a), summary(b), 0.1), stats.ttest_ind(a, b, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9)
    assert ours.estimate == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize("margin", [0.05, 0.4, 2.0])
def test_equivalence_is_two_one_sided_tests_of_shifted_samples(samples, margin):
    a, b = samples
    too_low = stats.ttest_ind(a + margin, b, equal_var=False, alternative="greater").pvalue
    too_high = stats.ttest_ind(a - margin, b, equal_var=False, alternative="less").pvalue
    assert welch(summary(a), summary(b), margin).p_equivalence == pytest.approx(max(too_low, too_high), rel=1e-9)


def test_equivalence_at_the_bounds_of_the_90_percent_interval():
    """TOST at 5 % says equivalent exactly where the 90 % interval lies within the margin."""
    a, b = np.array([1.0, 1.1, 0.9, 1.05]), np.array([1.02, 0.97, 1.01])
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.90)
    edge = max(abs(low), abs(high))
    assert welch(summary(a), summary(b), edge).p_equivalence == pytest.approx(0.05, rel=1e-9)
    assert welch(summary(a), summary(b), edge * 1.01).p_equivalence < 0.05
    assert welch(summary(a), summary(b), edge * 0.99).p_equivalence > 0.05


@pytest.mark.parametrize(
    ("a", "b"), [((1, np.nan, 1), (2, 0.1, 5)), ((1, 0.0, 3), (2, 0.0, 3)), ((1, 0.1, 0), (2, 1, 5))]
)
def test_one_seed_or_no_spread_at_all_gives_no_test(a, b):
    found = welch(a, b, 1.0)
    assert np.isnan([found.low, found.high, found.p, found.p_equivalence]).all()


def test_no_spread_on_one_side_is_still_a_test():
    found = welch((1.0, 0.0, 3), (2.0, 0.1, 5), 0.1)
    exact = stats.ttest_1samp(2.0 + 0.1 * np.array([-1, 1, 0, 0, 0]) * np.sqrt(2), 1.0)  # sd 0.1, n 5
    assert found.p == pytest.approx(exact.pvalue, rel=1e-9)


@pytest.mark.parametrize("mean_sd_n", [(1, np.nan, 1), (1, 0.0, 5), (np.nan, np.nan, 0)])
def test_a_mean_without_spread_has_no_interval(mean_sd_n):
    found = t_test(*mean_sd_n)
    assert np.isnan([found.low, found.high, found.p]).all()


@pytest.mark.parametrize("value", [20.0, 27.0, 36.5])
def test_one_value_against_others_is_students_test_of_groups_of_one_and_n(value):
    """SciPy's t-test of equal variances, whose estimate then comes of the larger group alone."""
    others = [24.1, 30.9, 26.2, 28.8, 24.7]
    found = one_of(value, np.mean(others), np.std(others, ddof=1), 5)
    expected = stats.ttest_ind([value], others)
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose([found.estimate, found.p], [value - np.mean(others), expected.pvalue], rtol=1e-10)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-10)


@pytest.mark.parametrize(("sd", "n"), [(0.0, 5), (math.nan, 1), (2.0, 1)])
def test_one_value_is_compared_with_nothing_that_has_no_spread(sd, n):
    assert np.isnan([one_of(1.0, 2.0, sd, n).p, one_of(1.0, 2.0, sd, n).low]).all()


@pytest.mark.parametrize("seed", range(4))
def test_holm_is_the_closed_test_of_bonferroni(seed):
    """A hypothesis falls if every intersection that it is in falls; each is tested by Bonferroni (Marcus 1976)."""
    p = np.random.default_rng(seed).random(6) ** 3
    subsets = [s for k in range(1, 7) for s in itertools.combinations(range(6), k)]
    closed = [max(min(1, len(s) * min(p[list(s)])) for s in subsets if i in s) for i in range(6)]
    assert holm(p) == pytest.approx(closed, rel=1e-12)


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm([]).shape == (0,)
