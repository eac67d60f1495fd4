"""Random rectangles made black."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.registry import AUGMENTATIONS, Fraction

_LOG_RATIO = math.log(10 / 3)


@AUGMENTATIONS.register("random_erasing", source="Zhong et al. 2020, arXiv:1708.04896")
def random_erasing(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: Fraction = 0.5,
    smallest: Fraction = 0.01,
    largest: Fraction = 0.05,
) -> Tensor:
    """With the given probability, make a rectangle of each image black.

    Its share of the area is uniform in [smallest, largest], its height over its width log-uniform in [3/10, 10/3], its
    sides are whole pixels, at least one and at most the image's, its place is any inside the image.
    """
    count, _, height, width = images.shape
    chance, area, ratio, down, right = torch.rand((5, count), generator=generator, device=images.device)
    area = (smallest + (largest - smallest) * area) * height * width
    ratio = (_LOG_RATIO * (2 * ratio - 1)).exp()
    rows, top = _extent((area * ratio).sqrt(), down, height)
    columns, left = _extent((area / ratio).sqrt(), right, width)
    inside = _within(top, rows, height)[:, None, :, None] & _within(left, columns, width)[:, None, None, :]
    return images.masked_fill(inside & (chance < probability)[:, None, None, None], 0)


def _extent(length: Tensor, place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Give whole pixels in [1, size] and where they begin, `(B,)` each, for lengths and draws in [0, 1)."""
    pixels = length.round().clamp(1, size)
    return pixels, (place * (size - pixels + 1)).floor()


def _within(start: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Tell which of `size` places lie in each stretch: `(B, size)`."""
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + pixels)[:, None])
