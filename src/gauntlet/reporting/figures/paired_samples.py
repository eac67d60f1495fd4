"""Smallest ε that fools the same samples under two variants, and statistics of the differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairedSamples:
    """Smallest ε that fools under a `first` and a `second` variant, float64 (n,) each; infinity for never fooled.

    `samples`, float64 (n,), counts the samples that have both values.
    """

    first: Array
    second: Array
    samples: Array

    @property
    def difference(self) -> Array:
        """Second minus first, (n,): infinite where one is never fooled, 0 where neither is."""
        never = np.isinf(self.first) & np.isinf(self.second)
        return np.subtract(self.second, self.first, out=np.zeros_like(self.first), where=~never)

    @property
    def larger(self) -> float:
        """The share of samples that need a larger ε under the second variant, in percent."""
        return self._percent(self.difference > 0)

    @property
    def smaller(self) -> float:
        """The share of samples that need a smaller ε under the second variant, in percent."""
        return self._percent(self.difference < 0)

    @property
    def median(self) -> float:
        """The median of the differences over all samples; infinite if most are never fooled under one variant only."""
        if not len(self.samples):
            return 0.0
        order = np.argsort(self.difference)
        position = np.searchsorted(self.samples[order].cumsum(), self.samples.sum() / 2)
        return float(self.difference[order][position])

    @property
    def never_fooled(self) -> int:
        """The number of samples that no attack fooled under at least one of the variants."""
        return int(self.samples[np.isinf(self.first) | np.isinf(self.second)].sum())

    @property
    def equal(self) -> int:
        """The number of samples that are fooled at the same ε, such as 0 for those that are wrong without an attack."""
        return int(self.samples[(self.difference == 0) & np.isfinite(self.first)].sum())

    def _percent(self, selected: NDArray[np.bool_]) -> float:
        return float(100 * self.samples[selected].sum() / max(1.0, self.samples.sum()))


def distinct_budgets(pairs: Iterable[PairedSamples]) -> Array:
    """Return the distinct budgets above 0 at which samples are fooled, ascending."""
    budgets: Array = np.unique(np.concatenate([values for pair in pairs for values in (pair.first, pair.second)]))
    return budgets[np.isfinite(budgets) & (budgets > 0)]
