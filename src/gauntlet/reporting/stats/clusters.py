"""Interval of a proportion where several replicates (training seeds) classify the same samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gauntlet.reporting.stats.intervals import CONFIDENCE, Interval, wilson_interval


def shared_samples_interval(
    right: ArrayLike, present: ArrayLike, counts: ArrayLike, *, confidence: float = CONFIDENCE
) -> Interval:
    """Bound the mean over replicates of the share of samples that are right: scalars (low, high), in [0, 1].

    `right` and `present` are bool (patterns, replicates), `counts` (patterns,) the number of samples with each pattern;
    a replicate need not have every sample. Replicates of one sample are dependent, so the unit is the sample: this is
    Wilson's interval with the effective number of trials, the number of samples where replicates agree, that number
    times the replicates where they are independent. Covers the mean with about probability `confidence` for independent
    samples and these replicates; with one replicate it is Wilson's interval. NaN where there are no samples.

    Raises ValueError for a confidence outside (0, 1).
    Source: Rao and Scott 1992, Biometrics 48, 577-585 (effective number of trials); Wilson 1927, JASA 22, 209-212.
    """
    number, exists = np.asarray(counts, dtype=np.float64), np.asarray(present, dtype=bool)
    known = number @ exists > 0
    if not known.any():
        return np.asarray(np.nan), np.asarray(np.nan)
    exists = exists[:, known]
    outcomes = np.asarray(right, dtype=bool)[:, known] & exists
    samples = number @ exists
    weights = exists / (len(samples) * samples)
    shares = number @ outcomes / samples
    mean = shares.mean()
    # The variance of the mean is the sum over samples of these squares, with the share of each replicate as given.
    influence = (weights * (outcomes - shares)).sum(1)
    least = 1 / (number @ weights.sum(1) ** 2)
    most = 1 / (number @ (weights**2).sum(1))
    trials = effective_trials(mean, least**2 * (number @ influence**2), least, most)
    return wilson_interval(np.clip(mean, 0, 1) * trials, trials, confidence=confidence)


def effective_trials(mean: ArrayLike, squares: ArrayLike, least: ArrayLike, most: ArrayLike) -> NDArray[np.float64]:
    """Return the number of independent trials whose proportion would vary as much as `mean` does.

    `squares` is the sum over samples of squared deviations of a sample's share of right replicates from `mean`. The
    result is between `least`, the number if all replicates of a sample agree, and `most`, that if they are independent.
    Near 0 and 1 the observed variance is of few samples and can be far too small, so one sample that all replicates
    have right and one that all have wrong are added to it.

    Source: Rao and Scott 1992, Biometrics 48, 577-585; added samples as in Agresti and Caffo 2000, The American
    Statistician 54, 280-288.
    """
    p, spread, n, highest = (np.asarray(value, dtype=np.float64) for value in (mean, squares, least, most))
    with np.errstate(divide="ignore", invalid="ignore"):
        center = (n * p + 1) / (n + 2)
        variance = (spread + n * (p - center) ** 2 + center**2 + (1 - center) ** 2) / (n + 2)
        trials = n * np.clip(center * (1 - center) / variance, 1.0, np.maximum(highest / n, 1.0))
    return np.where(n > 0, trials, 0.0)
