"""Batches of a split that lives on the device: an order per epoch, decided by address; no worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import Augmentation
from gauntlet.learning.data.splits import Split, to_unit


class Batches:
    """The training images as uint8 on `device`, given out in shuffled float batches.

    The order of epoch e is a function of (seed, e), the augmentation of step s a function of (seed, e, s): a run that
    is taken up in the middle of an epoch sees the same batches as one that never stopped.
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
        """Batches per epoch; a last batch of one image is left out, since it carries no batch statistics."""
        full, rest = divmod(len(self.labels), self.batch_size)
        return max(1, full + (rest > 1))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of an epoch from step `start`: images float32 `(B, C, H, W)` in [0, 1], labels `(B,)`."""
        device = self.labels.device
        order = torch.randperm(len(self.labels), generator=generator("train", self.seed, "order", epoch)).to(device)
        for step in range(start, self.steps):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            # Copies whole images; indexing does the same a pixel at a time, twenty times slower.
            images = to_unit(self.images.index_select(0, chosen))
            if self.augmentations:
                draws = generator("train", self.seed, "augmentation", epoch, step, device=device)
                for augment in self.augmentations:
                    images = augment(images, draws)
            yield images, self.labels.index_select(0, chosen)
