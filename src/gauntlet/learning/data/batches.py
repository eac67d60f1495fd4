"""Batches of a split stored on the device, in an order seeded per epoch; no worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import Augmentation
from gauntlet.learning.data.splits import Split, to_unit


class Batches:
    """Shuffled and augmented float batches of training images that are stored as uint8 on `device`.

    The order of epoch e is a function of (seed, e), the augmentation of step s a function of (seed, e, s): a run
    resumed in the middle of an epoch sees the same batches as an uninterrupted one.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        augmentations: Sequence[Augmentation] = (),
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.batch_size, self.seed, self.augmentations = batch_size, seed, tuple(augmentations)

    @property
    def steps(self) -> int:
        """Number of batches per epoch; a last batch of one image is dropped, since it has no batch statistics."""
        full, rest = divmod(len(self.labels), self.batch_size)
        return max(1, full + (rest > 1))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's batches from step `start`: images float32 `(B, C, H, W)` in [0, 1], labels int64 `(B,)`."""
        device = self.labels.device
        order = torch.randperm(len(self.labels), generator=generator("train", self.seed, "order", epoch)).to(device)
        for step in range(start, self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            # `index_select` copies whole images; indexing copies single pixels and is twenty times slower.
            images = to_unit(self.images.index_select(0, indices))
            if self.augmentations:
                random = generator("train", self.seed, "augmentation", epoch, step, device=device)
                for augment in self.augmentations:
                    images = augment(images, random)
            yield images, self.labels.index_select(0, indices)
