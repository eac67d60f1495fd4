"""Gaussian noise clipped to the pixel range."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import AUGMENTATIONS, PositiveFloat


@AUGMENTATIONS.register("gaussian_noise", source="Bishop 1995, Neural Computation 7(1)")
def gaussian_noise(images: Tensor, generator: torch.Generator, *, std: PositiveFloat = 0.1) -> Tensor:
    """Add Gaussian noise of standard deviation `std` in pixel units of [0, 1], then clip to [0, 1].

    Noise of standard deviation s after normalization is `std` = s times the standard deviation of the data.
    """
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return (images + std * noise).clamp(0, 1)
