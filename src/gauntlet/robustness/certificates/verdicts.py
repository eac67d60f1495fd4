"""What a certificate says of images, rounded so that it never says too much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Verdicts:
    """What a classifier of the certificate's own says of B images, and how far it stands by it.

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
