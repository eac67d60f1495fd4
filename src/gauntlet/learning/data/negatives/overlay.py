"""Overlays of two images of different classes."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.learning.data.negatives import Negatives, sample_rows
from gauntlet.registry import NEGATIVES, Fraction, PositiveFloat, PositiveInt


@NEGATIVES.register("overlay", source="Le 2019, journal of logic-inspired networks, 27 October")
class Overlay(Negatives):
    """Overlay two images of different classes: the pixelwise maximum.

    Each image is first scaled by a factor uniform in [`faintest`, 1]. The second image is drawn from the batch's images
    of other classes; if the batch has only one class, the negative is black.
    """

    def __init__(self, *, faintest: Fraction = 0.7, share: PositiveFloat = 1.0, start_epoch: PositiveInt = 1) -> None:
        self.faintest, self.share, self.start_epoch = faintest, share, start_epoch

    def make(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Make overlays `(count(B), C, H, W)`."""
        first = sample_rows(self.count(len(images)), len(images), generator)
        differs = labels[first][:, None] != labels[None, :]
        draws = torch.rand(differs.shape, generator=generator, device=images.device)
        second = draws.where(differs, -1).argmax(dim=1)
        factors = torch.rand((2, len(first), 1, 1, 1), generator=generator, device=images.device, dtype=images.dtype)
        factors = self.faintest + (1 - self.faintest) * factors
        overlays = torch.maximum(factors[0] * images[first], factors[1] * images[second])
        return overlays * differs.any(dim=1)[:, None, None, None]
