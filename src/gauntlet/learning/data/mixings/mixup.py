"""MixUp: weighted means of pairs of images."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.learning.data.mixings import Mixture, draw_partners, draw_shares
from gauntlet.registry import MIXINGS, PositiveFloat


@MIXINGS.register("mixup", source="Zhang et al. 2018, arXiv:1710.09412")
def mixup(images: Tensor, generator: torch.Generator, *, alpha: PositiveFloat = 1.0) -> Mixture:
    """Replace each image by the mean of it and another one, with weights drawn from Beta(`alpha`, `alpha`)."""
    partners, shares = draw_partners(images, generator), draw_shares(images, generator, alpha)
    mixed = torch.lerp(images[partners], images, shares[:, None, None, None]).clamp(0, 1)
    return Mixture(mixed, partners, shares)
