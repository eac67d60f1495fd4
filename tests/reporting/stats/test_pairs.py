"""Tests and intervals for two classifiers on the same samples, and for seeds, against scipy and counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from gauntlet.reporting.stats import (
    holm,
    odds_ratio,
    paired_interval,
    paired_t_test,
    seed_effects,
    sign_flip_test,
    t_interval,
)

COUNT = st.integers(0, 60)


def counts_of(differences, reach):
    """Count samples by their difference, from -reach to reach."""
    return np.asarray([np.sum(np.asarray(differences) == d) for d in range(-reach, reach + 1)])


def joint_of(first, second):
    """Count samples by the numbers of correct replicates of both; both are bool (replicates, samples)."""
    reach = len(first)
    joint = np.zeros((reach + 1, reach + 1))
    np.add.at(joint, (first.sum(0), second.sum(0)), 1)
    return joint


@given(COUNT, COUNT, COUNT)
def test_with_one_replicate_it_is_mcnemars_exact_test(only_first, only_second, same):
    """The p-value is that of the binomial test on the discordant samples."""
    p = sign_flip_test([only_second, same, only_first])
    discordant = only_first + only_second
    expected = reference.binomtest(only_first, discordant).pvalue if discordant else 1.0
    assert p == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_with_several_it_is_the_share_of_all_flips_of_signs(differences):
    """Enumerating every flip of every sample's sign gives the same p-value."""
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    expected = np.mean([value >= abs(sum(differences)) for value in sums])
    assert sign_flip_test(counts_of(differences, 3)) == pytest.approx(expected, rel=1e-9)


def test_flips_of_many_samples_agree_with_the_normal_limit():
    """For thousands of samples the exact probability is near that of the normal distribution."""
    draw = np.random.default_rng(0)
    differences = draw.integers(-5, 6, 20_000) + (draw.random(20_000) < 0.1)
    total, spread = differences.sum(), np.sqrt((differences**2).sum())
    expected = 2 * reference.norm.sf(abs(total) / spread)
    assert 1e-9 < expected < 1e-3
    assert sign_flip_test(counts_of(differences, 6)) == pytest.approx(expected, rel=0.01)


def test_tiny_p_values_have_an_upper_bound():
    """It replaces expensive exact tails; with one replicate the exact value is known."""
    exact = sign_flip_test([10, 0, 110])
    assert exact == pytest.approx(reference.binomtest(110, 120).pvalue)
    bound = sign_flip_test([0, 10, 0, 110, 0])
    assert exact <= bound < 1e-12


def test_correlated_replicates_add_no_evidence():
    """Five copies of one model give the p-value of one."""
    once = sign_flip_test([5, 80, 15])
    five = np.zeros(11)
    five[0], five[5], five[10] = 5, 80, 15
    assert sign_flip_test(five) == pytest.approx(once)
    assert reference.binomtest(75, 100).pvalue < once / 100


def test_the_test_keeps_its_level_under_the_null():
    """With correlated replicates, at 0.05, over 2000 synthetic comparisons."""
    draw = np.random.default_rng(1)
    easy = draw.beta(0.5, 0.5, (2000, 1, 80))
    first, second = (draw.random((2000, 3, 80)) < easy for _ in range(2))
    differences = first.sum(1) - second.sum(1)
    p = sign_flip_test(np.stack([(differences == d).sum(-1) for d in range(-3, 4)], -1))
    assert 0.02 < np.mean(p < 0.05) < 0.056


def test_an_even_number_of_counts_is_refused():
    """Differences of R replicates have 2 R + 1 values."""
    with pytest.raises(ValueError, match="-R to R"):
        sign_flip_test([1, 2])


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_paired_interval_is_newcombes_with_one_replicate(both, first, second, neither):
    """It equals method 8 computed with scipy's Wilson intervals."""
    n = both + first + second + neither
    low, high = paired_interval([[neither, second], [first, both]])
    if not n:
        assert np.isnan([low, high]).all()
        return
    ends = []
    for count in (both + first, both + second):
        wilson = reference.binomtest(count, n).proportion_ci(method="wilson")
        ends.append((count / n - wilson.low, wilson.high - count / n))
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    agreement = both * neither - first * second
    corrected = max(agreement - n / 2, 0) if agreement > 0 else agreement
    phi = corrected / np.sqrt(product) if product else 0.0
    difference = (first - second) / n

    def reach(one, other):
        return np.sqrt(one**2 - 2 * phi * one * other + other**2)

    assert low == pytest.approx(difference - reach(ends[0][0], ends[1][1]), abs=1e-9)
    assert high == pytest.approx(difference + reach(ends[0][1], ends[1][0]), abs=1e-9)


def test_newcombes_examples():
    """Newcombe 1998, Statistics in Medicine 17, 2635-2650: method 10 for 36 + 12 + 2 + 0 pairs."""
    np.testing.assert_allclose(paired_interval([[0, 2], [12, 36]]), (0.0569, 0.3404), atol=5e-5)


@pytest.mark.parametrize("right", [1, 25, 49])
@pytest.mark.parametrize("replicates", [1, 3])
def test_classifiers_that_agree_have_an_interval(right, replicates):
    """Equal outcomes on n samples bound the difference, but do not prove that there is none."""
    joint = np.zeros((replicates + 1, replicates + 1))
    joint[0, 0], joint[-1, -1] = 50 - right, right
    low, high = paired_interval(joint)
    assert 0.01 < high < 0.1
    assert -0.1 < low < -0.01
    np.testing.assert_allclose(paired_interval([[1, 0], [0, 1]]), (-0.5734, 0.5734), atol=1e-4)


@pytest.mark.parametrize(("samples", "first", "second"), [(50, 0.02, 0.005), (50, 0.1, 0.05), (360, 0.02, 0.005)])
def test_coverage_with_few_discordant_samples(samples, first, second):
    """The interval of two classifiers that nearly agree holds the difference in at least 94 % of experiments."""
    draw = np.random.default_rng(6)
    for both in (0.5, 0.85):
        counts = draw.multinomial(samples, [1 - both - first - second, second, first, both], 10_000)
        low, high = paired_interval(counts.reshape(-1, 2, 2))
        assert np.mean((low <= first - second) & (first - second <= high)) >= 0.94


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_paired_interval_has_its_coverage(replicates, shift):
    """It holds the difference in 95 % of 2000 synthetic comparisons with correlated replicates."""
    draw = np.random.default_rng(2)
    easy = draw.beta(2, 1, (2000, 1, 150)) * 0.9
    first = draw.random((2000, replicates, 150)) < easy + shift
    second = draw.random((2000, replicates, 150)) < easy
    joint = np.stack([joint_of(one, two) for one, two in zip(first, second, strict=True)])
    low, high = paired_interval(joint)
    assert 0.935 < np.mean((low <= shift) & (shift <= high)) < 0.975


def test_replicates_that_agree_make_no_interval_narrower():
    """Three copies of one model have its interval, and independent ones a narrower one."""
    draw = np.random.default_rng(3)
    first, second = draw.random((1, 200)) < 0.8, draw.random((1, 200)) < 0.7
    once = np.ptp(paired_interval(joint_of(first, second)))
    assert np.ptp(paired_interval(joint_of(np.repeat(first, 3, 0), np.repeat(second, 3, 0)))) == pytest.approx(once)
    others = [draw.random((3, 200)) < share for share in (0.8, 0.7)]
    assert np.ptp(paired_interval(joint_of(*others))) < 0.8 * once


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_paired_t_test_is_that_of_scipy(seeds):
    """It is the test of the mean difference over training seeds, along the last axis."""
    draw = np.random.default_rng(seeds)
    first, second = 0.5 + 0.1 * draw.normal(size=(2, 7, seeds))
    expected = reference.ttest_rel(first, second, axis=-1).pvalue
    np.testing.assert_allclose(paired_t_test(first - second), expected, rtol=1e-9)


def test_equal_differences_and_one_seed_have_no_p_value():
    """Copies of one training say nothing about other trainings, however often they are repeated."""
    assert np.isnan(paired_t_test([0.1 + 0.2, 0.3, 0.3]))
    assert np.isnan(paired_t_test([[0.0, 0.0], [0.25, 0.25]])).all()
    assert np.isnan(paired_t_test([0.3]))


def test_the_odds_of_the_discordant():
    """Twelve against two are six to one, and none against none is undefined."""
    np.testing.assert_array_equal(odds_ratio([12, 3, 0], [2, 0, 0]), [6.0, np.inf, np.nan])


def test_holm_by_hand():
    """The smallest p times their number, the next times one fewer, never decreasing, at most 1."""
    adjusted = holm([0.01, 0.04, np.nan, 0.03, 0.005, 0.5])
    np.testing.assert_allclose(adjusted, [0.04, 0.09, np.nan, 0.09, 0.025, 0.5])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])


def test_attack_seeds_do_not_count_as_training_seeds():
    """The interval is Student's over the means per training seed."""
    draw = np.random.default_rng(4)
    values = 0.6 + 0.05 * draw.normal(size=(3, 1)) + 0.01 * draw.normal(size=(3, 20))
    found = seed_effects(values)
    assert (found.low, found.high) == tuple(map(pytest.approx, t_interval(values.mean(1))))
    assert found.mean == pytest.approx(values.mean())


def test_both_standard_deviations_are_recovered():
    """Over many synthetic experiments both estimates equal the true values."""
    draw = np.random.default_rng(5)
    values = 0.6 + 0.05 * draw.normal(size=(4000, 4, 1)) + 0.02 * draw.normal(size=(4000, 4, 3))
    found = seed_effects(values)
    assert np.sqrt(np.mean(found.attack_std**2)) == pytest.approx(0.02, rel=0.03)
    assert np.sqrt(np.mean(found.training_std**2)) == pytest.approx(0.05, rel=0.03)


def test_one_seed_has_no_spread():
    """One training has no interval, and one attack seed no standard deviation."""
    one_training = seed_effects(np.array([[0.4, 0.5]]))
    assert np.isnan([one_training.low, one_training.high, one_training.training_std]).all()
    assert one_training.attack_std == pytest.approx(np.std([0.4, 0.5], ddof=1))
    one_attack = seed_effects(np.array([[0.4], [0.5]]))
    assert np.isnan(one_attack.attack_std)
    assert one_attack.training_std == pytest.approx(np.std([0.4, 0.5], ddof=1))
