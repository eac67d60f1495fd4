"""Input normalization as the first layer, so that data, attacks and certificates use pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """Subtraction of `mean` and division by `std` per channel, for images `(B, C, H, W)` in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to normalized images of the same shape."""
        return (x - self.mean) / self.std


def input_layer(mean: Sequence[float], std: Sequence[float], *, normalize: bool) -> Normalization:
    """Return the normalization by `mean` and `std`, or the identity."""
    return Normalization(mean, std) if normalize else Normalization([0.0] * len(mean), [1.0] * len(std))
