"""Confidence intervals of proportions and of means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Interval = tuple[NDArray[np.float64], NDArray[np.float64]]

CONFIDENCE = 0.95

LEAST_STD = 1e-12
"""Standard deviation below which values, such as shares, differ by rounding alone; of larger values, its multiple."""


def wilson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Bound a proportion by Wilson's score interval, elementwise.

    Covers the proportion with about probability `confidence` for independent trials, also near 0 and 1, where the
    normal interval fails. Arguments broadcast; the result is (low, high) in [0, 1], NaN where there are no trials.

    Raises ValueError for impossible counts or a confidence outside (0, 1).
    Source: Wilson 1927, JASA 22, 209-212; Brown, Cai and DasGupta 2001, Statistical Science 16, eq. (4).
    """
    k, n = _counts(successes, trials)
    z = special.ndtri(0.5 + check_confidence(confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = k / n
        scale = 1 / (1 + z**2 / n)
        center = scale * (share + z**2 / (2 * n))
        half = scale * z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = np.where(k == 0, 0.0, center - half)
    high = np.where(k == n, 1.0, center + half)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def clopper_pearson_interval(successes: ArrayLike, trials: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Bound a proportion by the exact interval of Clopper and Pearson, elementwise.

    Covers the proportion with at least probability `confidence` for independent trials. Arguments broadcast; the
    result is (low, high) in [0, 1], NaN where there are no trials.

    Raises ValueError for impossible counts or a confidence outside (0, 1).
    Source: Clopper and Pearson 1934, Biometrika 26, 404-413.
    """
    k, n = _counts(successes, trials)
    tail = (1 - check_confidence(confidence)) / 2
    low = np.where(k == 0, 0.0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail))
    high = np.where(k == n, 1.0, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail))
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def t_interval(values: ArrayLike, *, confidence: float = CONFIDENCE, axis: int = -1) -> Interval:
    """Bound the mean of normally distributed values, such as one accuracy per training seed, along `axis`.

    Covers the mean with probability `confidence` for independent normal values. NaN with fewer than two values, and
    where all are equal: their spread is unknown, not zero. The interval of an accuracy may extend beyond 0 and 1.

    Raises ValueError for a confidence outside (0, 1).
    Source: Student 1908, Biometrika 6, 1-25.
    """
    data = np.asarray(values, dtype=np.float64)
    probability = 0.5 + check_confidence(confidence) / 2
    n = data.shape[axis]
    if n < 2:
        empty = np.full(np.delete(np.array(data.shape), axis), np.nan)
        return empty, empty.copy()
    mean = data.mean(axis=axis)
    std = data.std(axis=axis, ddof=1)
    std = np.where(std > LEAST_STD * np.maximum(1, np.abs(mean)), std, np.nan)
    half = special.stdtrit(n - 1, probability) * std / math.sqrt(n)
    return mean - half, mean + half


def prediction_interval(low: ArrayLike, high: ArrayLike, *, values: int, future: int = 1) -> Interval:
    """Widen the t-interval of a mean over `values` normal values to one for the mean of `future` further values.

    Holds it with the t-interval's confidence, such as the accuracy of one more training. With more `values` it tends to
    the spread of single values, whereas the interval of the mean shrinks to a point.

    Raises ValueError for fewer than two values or no further one.
    Source: Hahn 1969, Technometrics 11, 791-794.
    """
    if values < 2 or future < 1:
        raise ValueError(f"expected 2 values and 1 further one at least, got {values} and {future}")
    ends = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    center, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2 * math.sqrt(1 + values / future)
    return center - half, center + half


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if not (np.all(k >= 0) and np.all(k <= n)):
        raise ValueError("successes must be between 0 and the number of trials")
    return k, n


def check_confidence(confidence: float) -> float:
    """Return a confidence. Raises ValueError if it is outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, not {confidence}")
    return confidence
