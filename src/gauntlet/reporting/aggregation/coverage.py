"""Failures under attack against the share of clean images answered, for a classifier with a reject option."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.queries import Evaluations

_SHARES = [number / 100 for number in range(101)]

_THRESHOLDS = """
    SELECT quantile_disc(clean_confidence, $shares) AS thresholds FROM evaluations
    WHERE variant = $variant AND attack = $attack
"""

# Confidences are negated, since a bin of a histogram holds the values up to its edge.
_COVERED = """
    SELECT count(*) AS samples, count(*) FILTER (error) AS errors,
        histogram(-clean_confidence, $edges::FLOAT[]) AS clean,
        histogram(-adversarial_confidence, $edges::FLOAT[])
            FILTER (NOT error AND adversarial_prediction <> label) AS wrong
    FROM evaluations WHERE variant = $variant AND attack = $attack
"""


@dataclass(frozen=True)
class CoverageCurve:
    """Coverage and failure rate by confidence threshold, thresholds descending; shares of all samples, float64 `(T,)`.

    An image is covered if the model's confidence is at least the threshold. `clean` is the share of clean images that
    are covered, `failure` the share of attacked images that are covered and misclassified.
    """

    thresholds: NDArray[np.float64]
    clean: NDArray[np.float64]
    failure: NDArray[np.float64]


def measure_coverage(evaluations: Evaluations, variant: str, attack: str) -> CoverageCurve | None:
    """Compute the failure rate against coverage for one attack on a variant's models, pooled over seeds.

    None without rows. The thresholds are the percentiles of the confidences in clean images. The attacked images are
    those of the rows: the first image that fooled the model, and misclassified images unchanged. So the failure rate is
    the largest possible only if the attack maximizes confidence in a wrong class and has one budget. A sample with an
    error counts as a failure at every threshold.

    Source: Goodfellow, Qin and Berthelot 2019, OpenReview H1g0piA9tQ.
    """
    ids = {"variant": variant, "attack": attack}
    values = evaluations.query(_THRESHOLDS, shares=_SHARES, **ids)["thresholds"][0].as_py()
    if not values:
        return None
    thresholds = np.unique(np.asarray(values, dtype=np.float32))[::-1]
    row = evaluations.query(_COVERED, edges=(-thresholds).tolist(), **ids).to_pylist()[0]
    clean, wrong = (np.cumsum(_counts(row[name], len(thresholds))) for name in ("clean", "wrong"))
    samples = row["samples"]
    return CoverageCurve(thresholds.astype(np.float64), clean / samples, (wrong + row["errors"]) / samples)


def _counts(histogram: list[tuple[float, int]] | None, bins: int) -> NDArray[np.int64]:
    """Return the counts of the bins in order, without the bin of values beyond the last edge."""
    ordered = sorted(histogram or [])[:bins]
    return np.asarray([count for _, count in ordered] or [0] * bins, dtype=np.int64)
