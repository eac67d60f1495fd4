"""Histograms of the confidence in clean images and in the images of an attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.queries import Evaluations

# The last bin includes its upper edge.
_BINS = """
    SELECT least(floor({confidence} * $bins)::INT, $bins - 1) AS bin, count(*) AS samples FROM evaluations
    WHERE variant = $variant AND attack = $attack AND {confidence} IS NOT NULL AND {condition} GROUP BY bin
"""


@dataclass(frozen=True)
class ConfidenceCounts:
    """Counts of images by confidence, int64 `(bins,)` each, pooled over seeds, in equal bins over [0, 1].

    `clean` counts all clean images, `fooled` the adversarial images that the attack found, `robust` the images that it
    returned without success.
    """

    clean: NDArray[np.int64]
    fooled: NDArray[np.int64]
    robust: NDArray[np.int64]


def count_confidences(evaluations: Evaluations, variant: str, attack: str, *, bins: int = 20) -> ConfidenceCounts:
    """Count the images of a variant's models by confidence, before and after an attack.

    Samples with an error count among the clean images only. Counts are zero where there are no rows.
    """
    counts = np.zeros((3, bins), np.int64)
    histograms = (("clean_confidence", "true"), ("adversarial_confidence", "fooled"))
    for number, (column, condition) in enumerate((*histograms, ("adversarial_confidence", "status = 'robust'"))):
        sql = _BINS.format(confidence=column, condition=condition)
        for row in evaluations.query(sql, bins=bins, variant=variant, attack=attack).to_pylist():
            counts[number, row["bin"]] = row["samples"]
    return ConfidenceCounts(*counts)
