"""Random erasing: random rectangles are set to black."""

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
    """Set a random rectangle of each image to black, with the given probability.

    Its share of the area is uniform in [smallest, largest], its ratio of height to width log-uniform in [3/10, 10/3].
    The sides are rounded to whole pixels, at least one and at most the image's; the position is uniform.
    """
    count, _, height, width = images.shape
    erase, area, ratio, down, right = torch.rand((5, count), generator=generator, device=images.device)
    area = (smallest + (largest - smallest) * area) * height * width
    ratio = (_LOG_RATIO * (2 * ratio - 1)).exp()
    rows, top = _extent((area * ratio).sqrt(), down, height)
    columns, left = _extent((area / ratio).sqrt(), right, width)
    inside = _within(top, rows, height)[:, None, :, None] & _within(left, columns, width)[:, None, None, :]
    return images.masked_fill(inside & (erase < probability)[:, None, None, None], 0)


def _extent(length: Tensor, position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the number of pixels in [1, size] and the first pixel, `(B,)` each, for positions drawn from [0, 1)."""
    pixels = length.round().clamp(1, size)
    return pixels, (position * (size - pixels + 1)).floor()


def _within(start: Tensor, pixels: Tensor, size: int) -> Tensor:
    """Return a mask `(B, size)` of the `pixels` indices from `start` on."""
    indices = torch.arange(size, device=start.device)
    return (indices >= start[:, None]) & (indices < (start + pixels)[:, None])
