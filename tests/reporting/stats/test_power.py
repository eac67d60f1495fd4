"""Power of paired comparisons, and the training seeds that they need."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from gauntlet.reporting.stats import paired_t_test
from gauntlet.reporting.stats.power import MAX_SEEDS, paired_t_power, seeds_needed, std_upper_limit


@pytest.mark.parametrize(("seeds", "effect"), [(2, 0.5), (3, 2.0), (5, 1.0), (30, 0.5), (400, 0.1)])
@pytest.mark.parametrize("significance", [0.05, 0.05 / 28])
def test_the_power_is_that_of_statsmodels(seeds, effect, significance):
    """They agree from 2 seeds to 400, also at a corrected level."""
    expected = TTestPower().power(effect, seeds, significance)
    assert paired_t_power(seeds, effect, significance=significance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 3.0, 30.0])
def test_the_seeds_are_the_least_that_suffice(ratio):
    """With one seed less the power is below the wanted one."""
    needed = seeds_needed(0.02 * ratio, 0.02, significance=0.05)
    assert needed is not None
    assert paired_t_power(needed, 1 / ratio, significance=0.05) >= 0.8
    assert needed == 2 or paired_t_power(needed - 1, 1 / ratio, significance=0.05) < 0.8


@pytest.mark.parametrize(
    ("std", "delta", "expected"), [(9.2997, 5, 30), (3.2, 5, 6), (4.5, 5, 9), (1.3, 2, 6), (3.7, 2, 29)]
)
def test_the_seeds_are_those_of_the_noncentral_distribution(std, delta, expected):
    """SciPy's  returns NaN for the upper tail of some of the numbers of seeds tried on the way."""
    assert seeds_needed(std, delta, significance=0.05) == expected
    critical, shift = stats.t.ppf(0.975, expected - 1), expected**0.5 * delta / std
    assert stats.nct.sf(critical, expected - 1, shift) >= 0.8


@pytest.mark.parametrize("significance", [0.05, 0.05 / 496, 0.05 / 19_900])
def test_the_power_is_a_probability_that_grows_with_the_seeds(significance):
    """It has a value for all numbers of seeds and all effects, of either sign."""
    for effect in [*np.geomspace(1e-4, 1e6, 51), 1e200, np.inf]:
        power = [paired_t_power(seeds, effect, significance=significance) for seeds in (2, 3, 5, 20, 157, 5000, 10_000)]
        assert np.all(np.isfinite(power)), effect
        assert np.all(np.diff(power) >= -1e-12), effect
        assert significance - 1e-12 <= power[0] <= power[-1] <= 1
        assert paired_t_power(20, -effect, significance=significance) == power[3]


def test_the_seeds_show_the_difference_in_simulations():
    """The paired t-test rejects in the wanted share of simulated experiments."""
    needed = seeds_needed(0.03, 0.02, significance=0.05, power=0.9)
    differences = np.random.default_rng(0).normal(0.02, 0.03, (20_000, needed))
    assert np.mean(paired_t_test(differences) < 0.05) == pytest.approx(0.905, abs=0.01)


def test_without_spread_two_seeds_suffice_and_no_number_is_stated_beyond_the_limit():
    """Two is the least number of a t-test."""
    assert seeds_needed(0.0, 0.01, significance=0.05) == 2
    assert seeds_needed(1.0, 0.01, significance=0.05) is None
    assert seeds_needed(1.0, 0.029, significance=0.05) <= MAX_SEEDS


@pytest.mark.parametrize(("std", "delta", "significance"), [(0.1, 0.0, 0.05), (-0.1, 0.1, 0.05), (0.1, 0.1, 1.0)])
def test_impossible_values_are_refused(std, delta, significance):
    """No seeds show a difference of 0."""
    with pytest.raises(ValueError, match="must be"):
        seeds_needed(std, delta, significance=significance)


def test_the_upper_limit_of_a_deviation_covers_it():
    """It lies above the true deviation in 80 % of simulations, and is unknown from one value."""
    values = np.random.default_rng(0).normal(0, 1, (20_000, 4))
    covered = std_upper_limit(values.std(1, ddof=1), 4) > 1
    assert covered.mean() == pytest.approx(0.8, abs=0.01)
    assert std_upper_limit(0.5, 1) == np.inf
