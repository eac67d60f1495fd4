"""CutMix: a rectangle of each image comes from another image."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.learning.data.mixings import Mixture, draw_partners, draw_shares
from gauntlet.registry import MIXINGS, PositiveFloat


@MIXINGS.register("cutmix", source="Yun et al. 2019, arXiv:1905.04899")
def cutmix(images: Tensor, generator: torch.Generator, *, alpha: PositiveFloat = 1.0) -> Mixture:
    """Replace a rectangle of each image by that of another one; its area is drawn from Beta(`alpha`, `alpha`).

    The center is uniform and the rectangle is cut at the border; shares are counted in pixels after that.
    """
    count, _, height, width = images.shape
    partners, shares = draw_partners(images, generator), draw_shares(images, generator, alpha)
    center = torch.rand((2, count), generator=generator, device=images.device, dtype=images.dtype)
    side = (1 - shares).sqrt()
    inside = _within(center[0], side, height)[:, :, None] & _within(center[1], side, width)[:, None, :]
    kept = 1 - inside.to(images.dtype).mean((1, 2))
    return Mixture(torch.where(inside[:, None], images[partners], images), partners, kept)


def _within(center: Tensor, side: Tensor, size: int) -> Tensor:
    """Return a mask `(B, size)` of the pixels in an interval; `center` and `side` `(B,)` are shares of `size`."""
    pixels = torch.arange(size, device=center.device)
    middle, half = (center * size).floor(), (side * size / 2).floor()
    first, end = (middle - half)[:, None], (middle + half)[:, None]
    return (pixels >= first) & (pixels < end)
