"""Training histories of a variant, and the published columns measured from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gauntlet.reporting.stats import t_interval, wilson_interval


@dataclass(frozen=True)
class Histories:
    """The training histories of a variant, one per seed that is present.

    `rows` has the epochs of each history, `kept` the epoch whose weights its model has, None if that is not recorded.
    `planned` counts the seeds; `samples` is the number of validation images.
    """

    rows: Sequence[Sequence[Mapping[str, Any]]]
    kept: Sequence[int | None]
    planned: int
    samples: int

    def at(self, epoch: int | None) -> list[Mapping[str, Any]]:
        """Return the row of an epoch from each history that has it; for None, the rows of the kept epochs."""
        epochs = self.kept if epoch is None else [epoch] * len(self.rows)
        return [row for rows, number in zip(self.rows, epochs, strict=True) for row in rows if row["epoch"] == number]


def history_numbers(histories: Histories, column: str, epoch: int | None, *, is_share: bool) -> dict[str, Any]:
    """Compute the mean of a column over the seeds; a share has an interval over samples too.

    `missing` counts the seeds without a value: without a history, or stopped before the epoch.
    """
    rows = histories.at(epoch)
    values = np.array([row[column] for row in rows if row[column] is not None], dtype=np.float64)
    samples, missing = len(values) * histories.samples, histories.planned - len(values)
    counts: dict[str, Any] = {"seeds": len(values), "samples": samples, "missing": missing, "flags": ""}
    if not len(values):
        return counts
    low, high = map(float, t_interval(values))
    numbers = {"accuracy": float(values.mean()), **counts}
    if len(values) > 1:
        numbers["training_std"] = float(values.std(ddof=1))
    if not np.isnan(low):
        numbers |= {"t_low": low, "t_high": high}
    if is_share and histories.samples:
        bounds = wilson_interval(np.rint(values[0] * histories.samples), histories.samples)
        numbers |= dict(zip(("wilson_low", "wilson_high"), map(float, bounds), strict=True))
    return numbers
