"""Random rotations about the centre."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.learning.data.augmentations.sampling import affine_sample
from gauntlet.registry import AUGMENTATIONS, NonNegativeFloat


@AUGMENTATIONS.register("rotation", source="Simard, Steinkraus, Platt 2003, ICDAR")
def rotation(images: Tensor, generator: torch.Generator, *, degrees: NonNegativeFloat = 10.0) -> Tensor:
    """Turn each image about its centre by up to `degrees` either way; what comes in from outside is black."""
    draws = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
    return rotate(images, math.radians(degrees) * (2 * draws - 1))


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Turn images `(B, C, H, W)` counter-clockwise by angles `(B,)` in radians, bilinearly."""
    height, width = images.shape[2:]
    cosine, sine = angles.cos(), angles.sin()
    maps = torch.zeros((len(images), 2, 3), device=images.device, dtype=images.dtype)
    # A place is measured in half widths and half heights; an angle is one only where both have the same unit.
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine * (height / width)
    maps[:, 1, 0], maps[:, 1, 1] = sine * (width / height), cosine
    return affine_sample(images, maps, outside="zeros")
