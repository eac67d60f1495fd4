"""Handwritten digits of scikit-learn: 1797 images of 8x8 pixels, included in that package."""

from __future__ import annotations

import numpy as np
import torch

from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.splits import Split
from gauntlet.registry import SOURCES


@SOURCES.register(
    "sklearn_digits",
    classes=10,
    side=8,
    channels=1,
    source="Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits",
)
def sklearn_digits() -> RawData:
    """Read the digits, with gray levels 0..16 scaled to 0..255; they have no test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))[:, None]  # (N, 1, 8, 8)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return RawData(Split(images, labels), None, None, tuple(str(name) for name in digits.target_names))
