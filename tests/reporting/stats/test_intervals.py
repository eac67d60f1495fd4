"""Intervals against those of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from gauntlet.reporting.stats import clopper_pearson_interval, prediction_interval, t_interval, wilson_interval

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.999])


@pytest.mark.parametrize(
    ("interval", "method"), [(wilson_interval, "wilson"), (clopper_pearson_interval, "exact")], ids=["wilson", "exact"]
)
@given(counts=COUNTS, confidence=CONFIDENCES)
def test_proportion_intervals_agree_with_scipy(interval, method, counts, confidence):
    """Both intervals of a proportion equal scipy's for any count, also none and all."""
    k, n = counts
    expected = reference.binomtest(k, n).proportion_ci(confidence, method=method)
    low, high = interval(k, n, confidence=confidence)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-6), CONFIDENCES)
def test_t_interval_agrees_with_scipy(values, confidence):
    """The interval of a mean equals scipy's."""
    expected = reference.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=reference.sem(values))
    assert t_interval(values, confidence=confidence) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_t_interval_works_along_an_axis():
    """A table of values has one interval per column."""
    table = np.random.default_rng(0).random((4, 3))
    low, high = t_interval(table, axis=0)
    expected = [t_interval(column) for column in table.T]
    np.testing.assert_allclose(np.stack([low, high], 1), np.array(expected))


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1e6 / 3])
def test_equal_values_have_no_t_interval(value):
    """Their spread is unknown: three trainings that all have 0 % are no proof that the next one has; so for 0.7."""
    assert np.isnan(t_interval([value] * 3)).all()
    low, high = t_interval([[value] * 3, [value, value, value * 1.001 + 1e-9]])
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] < value < high[1]


def test_one_value_has_no_t_interval():
    """A single seed has no interval over seeds."""
    assert np.isnan(t_interval([0.5])).all()
    assert np.isnan(t_interval(np.ones((1, 3)), axis=0)).all()


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
def test_no_trials_have_no_interval(interval):
    """An entry without trials is NaN and leaves the others unchanged."""
    low, high = interval([0, 3], [0, 10])
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert 0 < low[1] < 0.3 < high[1] < 1


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
@pytest.mark.parametrize("counts", [(-1, 10), (11, 10), (np.nan, 10)])
def test_impossible_counts_are_refused(interval, counts):
    """Negative successes, or more successes than trials, raise an error."""
    with pytest.raises(ValueError, match="successes"):
        interval(*counts)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_a_probability(confidence):
    """A confidence in percent is refused."""
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=confidence)
    with pytest.raises(ValueError, match="confidence"):
        t_interval([0.0, 1.0], confidence=confidence)


@pytest.mark.parametrize(("values", "future"), [(2, 1), (3, 1), (10, 5)])
def test_the_prediction_interval_holds_further_values_as_often_as_stated(values, future):
    """The t-interval of the mean would hold a single further one much less often."""
    draws = np.random.default_rng(0).normal(3.0, 2.0, (40_000, values + future))
    low, high = t_interval(draws[:, :values])
    further = draws[:, values:].mean(1)
    wide_low, wide_high = prediction_interval(low, high, values=values, future=future)
    assert np.mean((wide_low <= further) & (further <= wide_high)) == pytest.approx(0.95, abs=0.005)
    assert np.mean((low <= further) & (further <= high)) < 0.92


@pytest.mark.parametrize(("values", "future"), [(1, 1), (3, 0)])
def test_a_prediction_needs_two_values_and_a_further_one(values, future):
    """One value has no spread."""
    with pytest.raises(ValueError, match=f"got {values} and {future}"):
        prediction_interval(0.0, 1.0, values=values, future=future)
