"""Test and interval for the difference of two classifiers' accuracies on the same samples.

Each classifier may have several replicates (training seeds), whose outcomes on a sample are dependent, so the unit is
the sample. With one replicate these are the usual methods for paired proportions.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gauntlet.reporting.stats.clusters import effective_trials
from gauntlet.reporting.stats.intervals import CONFIDENCE, Interval, check_confidence, wilson_interval

_CERTAIN = 1e-12
_REACH = 9.0
"""Standard deviations beyond which a binomial's tail (below 1e-18) is left out."""


def sign_flip_test(differences: ArrayLike) -> NDArray[np.float64]:
    """Test exactly, two-sided, whether two classifiers are equally often right: p-values `(...)`.

    `differences` counts samples `(..., 2 R + 1)` by their difference from -R to R: the number of the R replicates of
    the first classifier that are right, less that of the second. If the classifiers are exchangeable on every sample,
    each difference is as probable as its negative, so the p-value is the probability, over all flips of signs, of a sum
    at least as far from 0 as the observed one. With one replicate this is McNemar's exact test. It is about these
    trained classifiers and new samples, not about new trainings.

    Where Hoeffding's bound on that probability is below 1e-12, the result is the bound, which is never smaller.

    Raises ValueError for an even number of counts.
    Source: Fisher 1935, The Design of Experiments, section 21; McNemar 1947, Psychometrika 12, 153-157; Hoeffding 1963,
    JASA 58, 13-30, theorem 2.
    """
    counts = np.asarray(differences)
    if counts.shape[-1] % 2 == 0:
        raise ValueError("there must be one count for each difference from -R to R")
    reach = counts.shape[-1] // 2
    positive = counts[..., reach + 1 :].astype(np.int64)
    sizes = positive + counts[..., :reach][..., ::-1].astype(np.int64)
    steps = np.arange(1, reach + 1)
    observed = np.abs(((2 * positive - sizes) * steps).sum(-1))
    flat = zip(sizes.reshape(-1, reach), observed.reshape(-1), strict=True)
    p = [_tail(tuple(map(int, size)), int(least)) for size, least in flat]
    return np.asarray(p, dtype=np.float64).reshape(observed.shape)


def paired_interval(joint: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Bound the difference of two accuracies on the same samples: (low, high), each `(...)`, in [-1, 1].

    `joint` counts samples `(..., R + 1, R + 1)` by how many of its R replicates each classifier has right. The Wilson
    intervals of the two accuracies are combined by their distances to the estimates and by the correlation of the two
    classifiers over samples, which is reduced by a continuity correction: without it, classifiers that agree on every
    sample would have an interval of width zero. The number of trials is the effective one: the number of samples if
    replicates agree, R times as many if they are independent. Covers the difference with about probability
    `confidence` for independent samples and these trained classifiers. NaN where there are no samples.

    Raises ValueError for a confidence outside (0, 1).
    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10, for one replicate; Zou and Donner 2008,
    Statistics in Medicine 27, 1693-1702; effective numbers as in `effective_trials`.
    """
    check_confidence(confidence)
    table = np.asarray(joint, dtype=np.float64)
    reach = table.shape[-1] - 1
    share = np.arange(reach + 1) / max(reach, 1)
    n = table.sum((-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = table.sum(-1) / n[..., None], table.sum(-2) / n[..., None]
        means = [(margin * share).sum(-1) for margin in margins]
        variances = [(margin * share**2).sum(-1) - mean**2 for margin, mean in zip(margins, means, strict=True)]
        product = np.einsum("...kl,k,l->...", table, share, share) / n - means[0] * means[1]
        spread = np.sqrt(np.maximum(variances[0] * variances[1], 0.0))
        product = np.where(product > 0, np.maximum(product - 0.5 / n, 0.0), product)
        correlation = np.where(spread > 1e-15, np.clip(product / np.maximum(spread, 1e-15), -1, 1), 0.0)
        (below, above), (other_below, other_above) = (
            _distances(mean, variance, n, reach, confidence) for mean, variance in zip(means, variances, strict=True)
        )
    difference = means[0] - means[1]
    low = difference - _combined(below, other_above, correlation)
    high = difference + _combined(above, other_below, correlation)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def odds_ratio(only_first: ArrayLike, only_second: ArrayLike) -> NDArray[np.float64]:
    """Compute the conditional odds ratio of paired outcomes: samples right only for the first over only the second.

    Infinite where the second is never right alone; NaN where neither is.
    """
    first, second = np.broadcast_arrays(np.asarray(only_first, np.float64), np.asarray(only_second, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(first / second)


def _distances(
    mean: NDArray[np.float64], variance: NDArray[np.float64], n: NDArray[np.float64], reach: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances of Wilson's limits below and above a mean, for the effective number of trials."""
    trials = effective_trials(mean, n * variance, n, n * max(reach, 1))
    low, high = wilson_interval(np.clip(np.nan_to_num(mean), 0, 1) * trials, trials, confidence=confidence)
    return mean - low, high - mean


def _combined(
    own: NDArray[np.float64], other: NDArray[np.float64], correlation: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(own**2 - 2 * correlation * own * other + other**2, 0.0))


@lru_cache(1 << 16)
def _tail(sizes: tuple[int, ...], least: int) -> float:
    """Compute the probability that a sum of ±k, `sizes[k - 1]` times each k, is at least `least` away from 0."""
    if least == 0:
        return 1.0
    if len(sizes) == 1:
        n = sizes[0]
        return min(1.0, 2 * float(special.bdtr((n - least) // 2, n, 0.5)))
    squares = sum(size * step**2 for step, size in enumerate(sizes, start=1))
    bound = 2 * float(np.exp(-(least**2) / (2 * squares)))
    if bound < _CERTAIN:
        return bound
    # The sum is 2 * (weighted sum of binomials) - total; each binomial is cut off where its tail is below 1e-18.
    first, probabilities = 0, np.ones(1)
    for step, size in enumerate(sizes, start=1):
        if not size:
            continue
        half = int(_REACH * np.sqrt(size) / 2) + 1
        successes = np.arange(max(0, size // 2 - half), min(size, size // 2 + half + 1) + 1)
        successes = successes[successes <= size]
        logs = special.gammaln(size + 1) - special.gammaln(successes + 1) - special.gammaln(size - successes + 1)
        spaced = np.zeros((len(successes) - 1) * step + 1)
        spaced[::step] = np.exp(logs - size * np.log(2.0))
        first, probabilities = first + step * int(successes[0]), np.convolve(probabilities, spaced)
    total = sum(size * step for step, size in enumerate(sizes, start=1))
    sums = 2 * (first + np.arange(len(probabilities))) - total
    return min(1.0, float(probabilities[np.abs(sums) >= least].sum()))
