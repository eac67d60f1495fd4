"""Random horizontal flips."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import AUGMENTATIONS, Fraction


@AUGMENTATIONS.register("flip", source="Krizhevsky et al. 2012, section 4.1")
def flip(images: Tensor, generator: torch.Generator, *, probability: Fraction = 0.5) -> Tensor:
    """Flip each image horizontally with the given probability."""
    draws = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    return torch.where(draws < probability, images.flip(-1), images)
