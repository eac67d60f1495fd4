"""Negative examples: images of no class, made of a training batch's own; one kind a file."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import NEGATIVES, Spec

NO_CLASS = -1
"""The label of a negative: every class is off. Only losses of ``sigmoid`` outputs take it."""


class Negatives:
    """Makes negatives of the images of a training step, from epoch `start_epoch` (counted from 1) on.

    `share` says how many are made: so many for each image of the batch, rounded, at least one.
    """

    share: float = 1.0
    start_epoch: int = 1

    def count(self, images: int) -> int:
        """Say how many negatives a batch of so many images gets."""
        return max(1, round(self.share * images))

    def make(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Make negatives of a batch, `(count(B), C, H, W)` in [0, 1], on its device.

        Images are float `(B, C, H, W)` in [0, 1] after augmentation, labels int64 `(B,)`.
        """
        raise NotImplementedError


def build_negatives(spec: Spec) -> Negatives:
    """Load a kind of negatives and give it its options."""
    negatives: Negatives = NEGATIVES.load(spec.name)(**spec.options)
    return negatives


def sample_rows(count: int, total: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of `total` rows on the generator's device, int64 `(count,)`: all equally often, some once more."""
    order = torch.randperm(total, generator=generator, device=generator.device)
    return order.repeat(-(-count // total))[:count]
