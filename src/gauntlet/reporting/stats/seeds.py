"""What training seeds and attack seeds say together about the mean of an accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gauntlet.reporting.stats.intervals import CONFIDENCE, t_interval


@dataclass(frozen=True)
class SeedEffects:
    """A mean over seeds, its interval, and the standard deviations that seeds of each kind cause, all `(...)`.

    `training_std` is NaN with fewer than two training seeds, `attack_std` with fewer than two attack seeds.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    training_std: NDArray[np.float64]
    attack_std: NDArray[np.float64]


def seed_effects(values: ArrayLike, *, confidence: float = CONFIDENCE) -> SeedEffects:
    """Bound the mean of values `(..., training seeds, attack seeds)`, such as accuracies.

    The model: value = mean + effect of the training + effect of the attack's draws on this model, both effects normal
    and independent, the second anew for every model, since an attack seed draws differently on another model. So the
    mean over attack seeds is one independent value per training seed, and the interval is Student's over these, with
    one degree of freedom fewer than training seeds: attack seeds make each value sharper, and never stand for
    trainings. With one training seed there is no interval (NaN).

    `attack_std` pools the variance between attack seeds of the same model; `training_std` is what is left of the
    variance between trainings when the share of the attack's draws is taken off, 0 if nothing is.

    Raises ValueError for a confidence outside (0, 1).
    Source: the balanced one-way model of random effects, Searle, Casella and McCulloch 1992, ch. 3.
    """
    data = np.asarray(values, dtype=np.float64)
    trainings, draws = data.shape[-2:]
    of_training = data.mean(axis=-1)
    low, high = t_interval(of_training, confidence=confidence)
    nothing = np.full(data.shape[:-2], np.nan)
    within = data.var(axis=-1, ddof=1).mean(axis=-1) if draws > 1 else nothing
    between = of_training.var(axis=-1, ddof=1) if trainings > 1 else nothing
    training = np.sqrt(np.maximum(between - (within / draws if draws > 1 else 0.0), 0.0))
    return SeedEffects(of_training.mean(axis=-1), low, high, training, np.sqrt(within))
