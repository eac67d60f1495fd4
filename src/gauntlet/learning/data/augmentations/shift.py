"""Random shifts by whole pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.registry import AUGMENTATIONS, PositiveInt


@AUGMENTATIONS.register("shift", source="Krizhevsky et al. 2012, section 4.1")
def shift(images: Tensor, generator: torch.Generator, *, pixels: PositiveInt = 2) -> Tensor:
    """Shift each image by up to `pixels` in both directions; uncovered pixels become black.

    This equals a random crop after padding by `pixels`: the usual augmentation of CIFAR-10 is ``pixels: 4``.
    """
    count, _, height, width = images.shape
    shifts = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator, device=images.device)
    rows = shifts[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[1] + torch.arange(width, device=images.device)  # (B, W)
    padded = functional.pad(images, (pixels,) * 4).movedim(1, -1)  # (B, H + 2p, W + 2p, C)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
