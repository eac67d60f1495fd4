"""Independent computation of the interval over samples that several training seeds share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def shared_wilson(survivals: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Return Wilson's interval with the effective number of trials; one list of equal length per training seed."""
    per_sample = np.mean(np.asarray(survivals, dtype=float), axis=0)
    widened = np.append(per_sample, [0.0, 1.0])
    proportion, variance = widened.mean(), widened.var()
    gain = min(max(proportion * (1 - proportion) / variance, 1.0), len(survivals))
    trials = len(per_sample) * gain
    low, high = proportion_confint(per_sample.mean() * trials, trials, method="wilson")
    return float(low), float(high)
