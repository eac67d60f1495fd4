"""Augmentations: batched tensor code on the device, one draw per image, pixels stay in [0, 1].

An augmentation is a function ``(images (B, C, H, W), generator, *, options) -> images``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.registry import AUGMENTATIONS, Fraction, PositiveFloat, PositiveInt, Spec

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def build_augmentation(spec: Spec) -> Augmentation:
    """Load an augmentation and bind its options."""
    return partial(AUGMENTATIONS.load(spec.name), **spec.options)


@AUGMENTATIONS.register("shift", source="Krizhevsky et al. 2012, section 4.1")
def shift(images: Tensor, generator: torch.Generator, *, pixels: PositiveInt = 2) -> Tensor:
    """Move each image by up to `pixels` in both directions; what comes in from outside is black."""
    count, _, height, width = images.shape
    moves = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator, device=images.device)
    rows = moves[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = moves[1] + torch.arange(width, device=images.device)  # (B, W)
    padded = functional.pad(images, (pixels,) * 4).movedim(1, -1)  # (B, H + 2p, W + 2p, C)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


@AUGMENTATIONS.register("flip", source="Krizhevsky et al. 2012, section 4.1")
def flip(images: Tensor, generator: torch.Generator, *, probability: Fraction = 0.5) -> Tensor:
    """Mirror each image left to right with the given probability."""
    chance = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    return torch.where(chance < probability, images.flip(-1), images)


@AUGMENTATIONS.register("gaussian_noise", source="Bishop 1995, Neural Computation 7(1)")
def gaussian_noise(images: Tensor, generator: torch.Generator, *, std: PositiveFloat = 0.1) -> Tensor:
    """Add Gaussian noise of standard deviation `std` in pixel units of [0, 1], then clip to [0, 1]."""
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return (images + std * noise).clamp(0, 1)
