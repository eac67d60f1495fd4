"""Checks of images and labels before an evaluation starts."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.data.stored_images import UnitImages

PREFLIGHT_IMAGES = 32
"""Largest number of images on which a model is checked before an evaluation starts."""


def _are_no_integers(labels: Tensor) -> bool:
    return labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool


def check_images(images: Tensor | UnitImages, labels: Tensor) -> None:
    """Check images, floats `(N, C, H, W)` in [0, 1], and labels, integers `(N,)`. Raises InputError.

    Stored images are in [0, 1], and are not read.
    """
    if len(images.shape) != 4 or 0 in images.shape:
        raise InputError(f"images have shape {tuple(images.shape)}", remedy="give (N, C, H, W) with N >= 1")
    if not images.dtype.is_floating_point:
        raise InputError(f"images are {images.dtype}", remedy="give floats in [0, 1]")
    if labels.dim() != 1 or len(labels) != len(images) or _are_no_integers(labels):
        problem = f"labels are {labels.dtype} of shape {tuple(labels.shape)}"
        raise InputError(problem, remedy=f"give {len(images)} integers, one per image")
    if isinstance(images, UnitImages):
        return
    low, high = float(images.min()), float(images.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN too
        raise InputError(
            f"images lie in [{low:g}, {high:g}], not in [0, 1]",
            remedy="divide 8-bit images by 255 and put normalization into the model as its first layer",
        )
