"""Intervals, tests and adjustments against statsmodels, on random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from gauntlet.reporting.stats import (
    clopper_pearson_interval,
    holm,
    paired_interval,
    sign_flip_test,
    t_interval,
    wilson_interval,
)

COUNT = st.integers(0, 80)
CONFIDENCE = st.sampled_from([0.5, 0.9, 0.95, 0.99])
SHARE = st.floats(0, 1)
PATIENT = settings(deadline=None)
"""The first call of a function of statsmodels imports more of it."""


@pytest.mark.parametrize(("interval", "method"), [(wilson_interval, "wilson"), (clopper_pearson_interval, "beta")])
@given(counts=st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), confidence=CONFIDENCE)
@PATIENT
def test_intervals_of_a_proportion(interval, method, counts, confidence):
    """They agree for any count, also none and all."""
    expected = proportion_confint(*counts, alpha=1 - confidence, method=method)
    np.testing.assert_allclose(interval(*counts, confidence=confidence), expected, atol=1e-9)


@given(st.lists(SHARE, min_size=2, max_size=10).filter(lambda values: np.std(values) > 1e-6), CONFIDENCE)
@PATIENT
def test_the_interval_of_a_mean(values, confidence):
    """Student's interval over seeds agrees."""
    expected = DescrStatsW(values).tconfint_mean(alpha=1 - confidence)
    np.testing.assert_allclose(t_interval(values, confidence=confidence), expected, rtol=1e-9, atol=1e-12)


@given(COUNT, COUNT, COUNT, COUNT)
@PATIENT
def test_mcnemars_exact_test(both, first, second, neither):
    """With one replicate the sign-flip test is McNemar's."""
    expected = mcnemar([[both, first], [second, neither]], exact=True).pvalue if first + second else 1.0
    assert sign_flip_test([second, both + neither, first]) == pytest.approx(expected, rel=1e-9)


@given(*[st.integers(1, 12)] * 4, CONFIDENCE)
@PATIENT
def test_newcombes_interval_without_correlation(one, not_one, other, not_other, confidence):
    """Without correlation it is Newcombe's interval for two samples (Statistics in Medicine 17, 873-890, method 10)."""
    # The products of two margins are a table without correlation.
    joint = np.outer([not_one, one], [not_other, other])
    n, right = joint.sum(), (joint[1].sum(), joint[:, 1].sum())
    expected = confint_proportions_2indep(
        right[0], n, right[1], n, method="newcomb", compare="diff", alpha=1 - confidence
    )
    np.testing.assert_allclose(paired_interval(joint, confidence=confidence), expected, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_holms_adjustment(size):
    """It agrees also with ties, small values and ones."""
    draw = np.random.default_rng(size)
    p_values = np.concatenate([draw.random(size) ** 4, np.round(draw.random(size), 1), [1.0]])
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)
