"""Negative examples: images of no class, made from the images of a training batch; one kind per file."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import NEGATIVES, Spec

NO_CLASS = -1
"""Label of a negative, for which the targets of all classes are 0. Only losses of ``sigmoid`` outputs accept it."""


class Negatives:
    """Base class of negatives, made from the images of each training step from epoch `start_epoch` (from 1) on.

    `share` is the number of negatives per image of the batch; the product is rounded, and at least 2: a single image
    has no batch statistics.
    """

    share: float = 1.0
    start_epoch: int = 1

    def count(self, images: int) -> int:
        """Return the number of negatives for a batch of `images` images."""
        return max(2, round(self.share * images))

    def make(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Make negatives from a batch, `(count(B), C, H, W)` in [0, 1], on its device.

        Images are float `(B, C, H, W)` in [0, 1] after augmentation, labels int64 `(B,)`.
        """
        raise NotImplementedError


def build_negatives(spec: Spec) -> Negatives:
    """Build a kind of negatives from its name and options."""
    negatives: Negatives = NEGATIVES.load(spec.name)(**spec.options)
    return negatives


def sample_rows(count: int, total: int, generator: torch.Generator) -> Tensor:
    """Sample `count` of `total` rows, int64 `(count,)`, on the generator's device; frequencies differ by at most 1."""
    order = torch.randperm(total, generator=generator, device=generator.device)
    return order.repeat(-(-count // total))[:count]
