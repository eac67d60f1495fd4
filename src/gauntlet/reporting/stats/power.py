"""Power of the comparison of two variants paired by training seed: the seeds that show a difference."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gauntlet.reporting.stats.intervals import check_confidence

POWER = 0.8
MAX_SEEDS = 10_000
"""Number of seeds from which on `seeds_needed` states no number."""

_FARTHEST = 9.0
"""Distance from the mean beyond which a normal variable has a probability below the rounding of float64."""

_PANELS, _NODES = 400, 10
"""Panels of the integration and nodes in each: with 10 000 seeds at 0.05, the integrand rises within a third of one."""


def paired_t_power(seeds: int, effect: float, *, significance: float) -> float:
    """Return the probability that the two-sided paired t-test of `seeds` differences rejects a mean of 0.

    `effect` is the true mean of the differences divided by their standard deviation; the differences are normal.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, ch. 2; noncentral t distribution.
    """
    degrees = seeds - 1
    critical = special.stdtrit(degrees, 1 - significance / 2)
    shift = math.sqrt(seeds) * abs(effect)
    # SciPy's `nctdtr` returns NaN for many of these tails, so the integral over the mean of the differences is computed
    # here: the test rejects if the mean, in standard errors, is above `critical` times the standard deviation.
    around, weights = _nodes(-min(shift, _FARTHEST), _FARTHEST)
    with np.errstate(over="ignore"):
        density = np.exp(-(around**2) / 2) + np.exp(-((2 * shift + around) ** 2) / 2)
        rejected = special.gammainc(degrees / 2, degrees * ((shift + around) / critical) ** 2 / 2)
    return min(1.0, float(weights @ (density * rejected)) / math.sqrt(2 * math.pi))


def _nodes(low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of Gauss-Legendre integration from `low` to `high`, in panels of equal width."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    width = (high - low) / _PANELS
    starts = low + width * np.arange(_PANELS)
    return (starts[:, None] + width * (nodes + 1) / 2).ravel(), np.tile(width * weights / 2, _PANELS)


def seeds_needed(std: float, delta: float, *, significance: float, power: float = POWER) -> int | None:
    """Return the least number of training seeds that shows a difference of `delta` with probability `power`.

    `std` is the standard deviation of the difference between two variants over seeds, in the unit of `delta`; the test
    is the two-sided paired t-test at `significance`. At least 2; None if more than MAX_SEEDS are needed.

    Raises ValueError for a `delta` that is not positive, a negative `std`, or a probability outside (0, 1).
    """
    check_confidence(significance)
    check_confidence(power)
    if not (delta > 0 and std >= 0):
        raise ValueError(f"delta must be positive and std not negative, not {delta} and {std}")
    if std == 0:
        return 2
    effect = delta / std

    def suffices(seeds: int) -> bool:
        return paired_t_power(seeds, effect, significance=significance) >= power

    if not suffices(MAX_SEEDS):
        return None
    low, high = 1, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def std_upper_limit(std: ArrayLike, seeds: ArrayLike, *, confidence: float = POWER) -> NDArray[np.float64]:
    """Bound a standard deviation estimated from `seeds` normal values from above, with probability `confidence`.

    Infinity with fewer than two values. Seeds planned with this limit have the wanted power with that probability at
    least, where the estimate itself has it about half of the time.

    Source: Browne 1995, Statistics in Medicine 14, 1933-1940.
    """
    deviations, degrees = np.asarray(std, np.float64), np.asarray(seeds, np.float64) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        # The quantile of chi-square: twice that of the gamma distribution.
        quantile = 2 * special.gammaincinv(degrees / 2, 1 - check_confidence(confidence))
        limit = deviations * np.sqrt(degrees / quantile)
    return np.where(degrees > 0, limit, np.inf)
