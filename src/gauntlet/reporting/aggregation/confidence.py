"""How sure a model is of its answers: histograms of confidence in clean images, and in those that attacks made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.queries import Evaluations

# The last bin holds its upper edge, as that of any histogram over a closed range does.
_BINS = """
    SELECT least(floor({confidence} * $bins)::INT, $bins - 1) AS bin, count(*) AS samples FROM evaluations
    WHERE variant = $variant AND attack = $attack AND {confidence} IS NOT NULL AND {chosen} GROUP BY bin
"""


@dataclass(frozen=True)
class ConfidenceCounts:
    """Counts of samples by confidence, int64 `(bins,)` each, pooled over seeds; bins are of equal width over [0, 1].

    `clean` are all images as they are, `fooled` the adversarial images that the attack found, `withstood` the images
    that it returned without success.
    """

    clean: NDArray[np.int64]
    fooled: NDArray[np.int64]
    withstood: NDArray[np.int64]


def count_confidences(evaluations: Evaluations, variant: str, attack: str, *, bins: int = 20) -> ConfidenceCounts:
    """Count the samples of a variant's models by their confidence, before and after an attack.

    Samples that went wrong are among the clean ones only. Counts are zero where there are no rows.
    """

    def counted(column: str, chosen: str) -> NDArray[np.int64]:
        sql = _BINS.format(confidence=column, chosen=chosen)
        rows = evaluations.query(sql, bins=bins, variant=variant, attack=attack).to_pylist()
        counts = np.zeros(bins, np.int64)
        for row in rows:
            counts[row["bin"]] = row["samples"]
        return counts

    return ConfidenceCounts(
        counted("clean_confidence", "true"),
        counted("adversarial_confidence", "fooled"),
        counted("adversarial_confidence", "status = 'robust'"),
    )
