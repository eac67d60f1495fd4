"""Images seen through a frame of another place, size or angle: bilinear sampling, each image by its own map."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional


def affine_sample(images: Tensor, maps: Tensor, *, outside: Literal["zeros", "border"]) -> Tensor:
    """Sample images `(B, C, H, W)` in [0, 1] through maps `(B, 2, 3)`, bilinearly; returns the same shape in [0, 1].

    Map b takes a place (x, y, 1) of the result to a place of image b; both span [-1, 1] from edge to edge of an image.
    What lies outside the image is black (``zeros``) or the nearest pixel (``border``).
    """
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    seen = functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    # The four weights of a place sum to 1 but for rounding.
    return seen.clamp(0, 1)
