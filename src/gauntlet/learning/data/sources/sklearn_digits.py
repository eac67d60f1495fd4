"""scikit-learn's handwritten digits: 1797 images of 8x8 that ship inside that package, so no file is needed."""

from __future__ import annotations

import numpy as np
import torch

from gauntlet.learning.data.splits import RawData, Split
from gauntlet.registry import SOURCES


@SOURCES.register(
    "sklearn_digits", classes=10, source="Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits"
)
def sklearn_digits() -> RawData:
    """Read the digits, their grey levels 0..16 spread over 0..255; there is no test split of their own."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))[:, None]  # (N, 1, 8, 8)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return RawData(Split(images, labels), None, None, tuple(str(name) for name in digits.target_names))
