"""Accuracies over training seeds and attack seeds: mean, spread that each kind of seed causes, paired differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gauntlet.reporting.stats.intervals import CONFIDENCE, LEAST_STD, t_interval


def paired_t_test(differences: ArrayLike, *, axis: int = -1) -> NDArray[np.float64]:
    """Test whether the mean of paired differences, such as one per training seed, is 0: two-sided p-values.

    Assumes independent, normally distributed differences. NaN with fewer than two values, and where all are equal: then
    nothing is known of their spread (copies of one training, or no difference at all).

    Source: Student 1908, Biometrika 6, 1-25.
    """
    data = np.asarray(differences, dtype=np.float64)
    n = data.shape[axis]
    if n < 2:
        return np.full(np.delete(np.array(data.shape), axis), np.nan)
    std = data.std(axis=axis, ddof=1)
    known = std > LEAST_STD
    t = np.abs(data.mean(axis=axis)) / np.where(known, std, 1.0) * np.sqrt(n)
    return np.where(known, 2 * special.stdtr(n - 1, -t), np.nan)


@dataclass(frozen=True)
class SeedEffects:
    """Mean over seeds, its interval, and the standard deviations that each kind of seed causes, all `(...)`.

    `training_std` is NaN with fewer than two training seeds, `attack_std` with fewer than two attack seeds.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    training_std: NDArray[np.float64]
    attack_std: NDArray[np.float64]


def seed_effects(values: ArrayLike, *, confidence: float = CONFIDENCE) -> SeedEffects:
    """Bound the mean of values `(..., training seeds, attack seeds)`, such as accuracies.

    Model: value = mean + training effect + attack effect, both normal and independent, the attack effect nested in the
    model, since an attack seed draws differently on another model. The mean over attack seeds is one independent value
    per training seed, and the t-interval is over these: attack seeds make each value more precise but do not replace
    trainings. With one training seed, and if all have equal means, there is no interval (NaN).

    `attack_std` pools the variance between attack seeds of the same model. `training_std` is the root of the
    variance between trainings less the part due to attack seeds, 0 where that is negative.

    Raises ValueError for a confidence outside (0, 1).
    Source: Searle, Casella and McCulloch 1992, Variance Components, ch. 3 (balanced one-way random model).
    """
    data = np.asarray(values, dtype=np.float64)
    training_seeds, attack_seeds = data.shape[-2:]
    training_means = data.mean(axis=-1)
    low, high = t_interval(training_means, confidence=confidence)
    undefined = np.full(data.shape[:-2], np.nan)
    within = data.var(axis=-1, ddof=1).mean(axis=-1) if attack_seeds > 1 else undefined
    between = training_means.var(axis=-1, ddof=1) if training_seeds > 1 else undefined
    training = np.sqrt(np.maximum(between - (within / attack_seeds if attack_seeds > 1 else 0.0), 0.0))
    return SeedEffects(training_means.mean(axis=-1), low, high, training, np.sqrt(within))
