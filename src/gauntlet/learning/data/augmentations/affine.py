"""Affine transformations of images with bilinear sampling, one per image."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional


def affine_sample(images: Tensor, maps: Tensor, *, outside: Literal["zeros", "border"]) -> Tensor:
    """Transform images `(B, C, H, W)` in [0, 1] by affine maps `(B, 2, 3)`; returns the same shape in [0, 1].

    Map b takes the coordinates (x, y, 1) of a pixel of the result to coordinates in image b; both range over [-1, 1]
    between the edges of an image. Outside the image pixels are black (``zeros``) or the nearest pixel (``border``).
    """
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    sampled = functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    # The four bilinear weights sum to 1 up to rounding.
    return sampled.clamp(0, 1)
