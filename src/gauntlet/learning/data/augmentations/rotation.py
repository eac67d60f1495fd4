"""Random rotations about the center."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.learning.data.augmentations.affine import affine_sample
from gauntlet.registry import AUGMENTATIONS, NonNegativeFloat


@AUGMENTATIONS.register("rotation", source="Simard, Steinkraus, Platt 2003, ICDAR")
def rotation(images: Tensor, generator: torch.Generator, *, degrees: NonNegativeFloat = 10.0) -> Tensor:
    """Rotate each image about its center by up to `degrees` in either direction; uncovered pixels become black."""
    draws = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
    return rotate(images, math.radians(degrees) * (2 * draws - 1))


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate images `(B, C, H, W)` counter-clockwise by angles `(B,)` in radians, with bilinear interpolation."""
    height, width = images.shape[2:]
    cosine, sine = angles.cos(), angles.sin()
    maps = torch.zeros((len(images), 2, 3), device=images.device, dtype=images.dtype)
    # Coordinates are in units of half the width and half the height, which differ unless the image is square.
    maps[:, 0, 0], maps[:, 0, 1] = cosine, -sine * (height / width)
    maps[:, 1, 0], maps[:, 1, 1] = sine * (width / height), cosine
    return affine_sample(images, maps, outside="zeros")
