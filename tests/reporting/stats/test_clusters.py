"""Coverage of the interval over samples that several training seeds share, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.reporting.stats import effective_trials, shared_samples_interval, wilson_interval
from tests.support.shared_wilson import shared_wilson

SIMULATIONS = 4000


def beta_binomial(draw, size, replicates, p, correlation):
    """Draw the numbers of right replicates: `p` is right on average, with a correlation between replicates."""
    if replicates == 1:
        return draw.binomial(1, p, size)
    total = (1 - correlation) / correlation
    return draw.binomial(replicates, draw.beta(p * total, (1 - p) * total, size))


def coverage(p, right, replicates):
    """Return the share of experiments, rows of `right`, whose interval holds `p`."""
    shares, samples = right / replicates, right.shape[1]
    mean = shares.mean(1)
    squares = ((shares - mean[:, None]) ** 2).sum(1)
    trials = effective_trials(mean, squares, samples, samples * replicates)
    low, high = wilson_interval(mean * trials, trials)
    return np.mean((low <= p) & (p <= high))


@pytest.mark.parametrize("replicates", [1, 3, 5, 10])
@pytest.mark.parametrize("p", [0.6, 0.9])
def test_the_interval_has_its_coverage(replicates, p):
    """Whatever the correlation between seeds, 95 % intervals hold the accuracy in at least 94 % of experiments."""
    draw = np.random.default_rng(7)
    for correlation in (0.3, 0.5, 0.7, 0.95):
        right = beta_binomial(draw, (SIMULATIONS, 360), replicates, p, correlation)
        assert 0.94 <= coverage(p, right, replicates) < 0.965, correlation


@pytest.mark.parametrize("samples", [10, 50, 360])
@pytest.mark.parametrize("p", [0.003, 0.5, 0.97])
def test_small_experiments_and_accuracies_near_0_and_1(samples, p):
    """Several seeds cover at least as often as one, whose coverage is that of Wilson's interval."""
    draw = np.random.default_rng(8)
    one_seed = coverage(p, beta_binomial(draw, (SIMULATIONS, samples), 1, p, 0.5), 1)
    for replicates in (3, 10):
        for correlation in (0.3, 0.95):
            right = beta_binomial(draw, (SIMULATIONS, samples), replicates, p, correlation)
            assert coverage(p, right, replicates) >= min(0.94, one_seed) - 0.01, (replicates, correlation)


def test_few_samples_near_1_have_the_coverage_of_one_seed():
    """As docs/tables.md states: of 30 samples at 99.5 %, only the interval of 30 right ones holds the accuracy."""
    draw = np.random.default_rng(10)
    found = [
        coverage(0.995, beta_binomial(draw, (SIMULATIONS, 30), replicates, 0.995, 0.9), replicates)
        for replicates in (1, 3)
    ]
    assert found == pytest.approx([0.86, 0.87], abs=0.02)


def test_seeds_with_different_samples():
    """Seeds that share half of their samples, or none, and seeds of different size."""
    draw = np.random.default_rng(9)
    for sizes in (
        (range(200), range(100, 300), range(100, 200)),
        (range(100), range(100, 200)),
        (range(300), range(60)),
    ):
        present = np.stack([np.isin(np.arange(300), size) for size in sizes], axis=1)
        held = []
        for _ in range(1500):
            chance = draw.beta(1.2, 0.8, (300, 1))
            right = draw.random(present.shape) < chance
            low, high = shared_samples_interval(right & present, present, np.ones(300))
            held.append(low <= 0.6 <= high)
        assert 0.935 <= np.mean(held) < 0.98, sizes


@pytest.mark.parametrize("replicates", [1, 2, 5])
def test_patterns_give_the_interval_of_the_samples(replicates):
    """Counting equal samples together changes nothing, and the interval is that of an independent computation."""
    draw = np.random.default_rng(replicates)
    right = draw.random((80, replicates)) < draw.beta(2, 1, (80, 1))
    every = np.ones_like(right)
    found = shared_samples_interval(right, every, np.ones(80))
    patterns, counts = np.unique(right, axis=0, return_counts=True)
    np.testing.assert_allclose(shared_samples_interval(patterns, np.ones_like(patterns), counts), found)
    np.testing.assert_allclose(shared_wilson(right.T.tolist()), found)
    absent = np.concatenate([every, np.zeros((80, 1), bool)], axis=1)
    with_absent = shared_samples_interval(np.concatenate([right, right[:, :1]], axis=1), absent, np.ones(80))
    np.testing.assert_allclose(with_absent, found)


def test_identical_and_independent_seeds():
    """Copies of one model have its interval, and independent outcomes that of all trials."""
    draw = np.random.default_rng(0)
    right = draw.random((400, 1)) < 0.7
    copies = np.repeat(right, 3, axis=1)
    once = wilson_interval(right.sum(), 400)
    np.testing.assert_allclose(shared_samples_interval(copies, np.ones_like(copies), np.ones(400)), once)
    np.testing.assert_allclose(shared_samples_interval(right, np.ones_like(right), np.ones(400)), once)
    apart = np.kron(np.eye(3, dtype=bool), np.ones((400, 1), bool))
    outcomes = np.tile(draw.random((1200, 1)) < 0.7, 3) & apart
    found = shared_samples_interval(outcomes, apart, np.ones(1200))
    np.testing.assert_allclose(found, wilson_interval(outcomes.sum(), 1200), rtol=2e-3)


def test_all_right_all_wrong_and_none():
    """The ends are exactly 0 and 1, and nothing has no interval."""
    every = np.ones((50, 3), bool)
    assert shared_samples_interval(every, every, np.ones(50))[1] == 1.0
    assert shared_samples_interval(~every, every, np.ones(50))[0] == 0.0
    assert np.isnan(shared_samples_interval(~every, ~every, np.ones(50))).all()
