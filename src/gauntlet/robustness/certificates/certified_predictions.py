"""Predictions of a certified classifier, and rounding that never overstates a certificate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CertifiedPredictions:
    """Predictions of the certified (e.g. smoothed) classifier on B images, with confidence and radius.

    `prediction` is int64 `(B,)`, -1 where it abstains; `confidence` float32 `(B,)` in [0, 1], a number that the
    certificate documents; `radius` float32 `(B,)` in the certificate's norm, in pixel units, 0 where it abstains.
    """

    prediction: np.ndarray
    confidence: np.ndarray
    radius: np.ndarray


def round_down(values: np.ndarray) -> np.ndarray:
    """Round float64 to the nearest float32 that is not larger."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest)
