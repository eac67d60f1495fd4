"""Images that a data set takes from its source, chosen by their labels alone, before any is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gauntlet.learning.data.blocks import Block, Slots
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.raw_data import SourceSplit

_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class SelectedSplit:
    """Images of a split of the source: `indices`, int64 `(N,)`, in the order in which they are stored."""

    source: SourceSplit
    indices: Tensor

    @classmethod
    def of(cls, source: SourceSplit) -> SelectedSplit:
        """Return all images of a split."""
        return cls(source, torch.arange(len(source)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> Tensor:
        """Labels, int64 `(N,)`."""
        return self.source.labels[self.indices]

    def select(self, rows: Tensor) -> SelectedSplit:
        """Return some of the images: `rows`, int64 `(M,)`, of this selection."""
        return SelectedSplit(self.source, self.indices[rows])


@dataclass(frozen=True)
class SelectedData:
    """Splits of a data set by name, the `sources` that they are from, and the class names; `where` for messages."""

    splits: Mapping[str, SelectedSplit]
    sources: tuple[SourceSplit, ...]
    classes: tuple[str, ...]
    where: str

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @property
    def described(self) -> str:
        """Split of which mean and standard deviation are computed: ``train``, or ``test`` without training images."""
        return "train" if len(self.splits["train"]) else "test"

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the first images: with the channels of those that have color, if some have."""
        shapes = [source.image_shape for source in self.sources]
        return max(shape[0] for shape in shapes), *shapes[0][1:]

    def slots(self, source: SourceSplit) -> Slots:
        """Return the number of the split and the position of each image of a source."""
        slots = np.full((len(source), 2), -1, np.int64)
        for number, split in enumerate(self.splits.values()):
            if split.source is source:
                slots[split.indices.numpy(), 0] = number
                slots[split.indices.numpy(), 1] = np.arange(len(split))
        return slots

    def blocks(self, source: SourceSplit) -> Iterator[Block]:
        """Yield the images of a source in its order."""
        if isinstance(source, EncodedSplit):
            yield from source.read()
            return
        for images in source.images.split(_IMAGES_AT_ONCE):
            yield Block(list(images.contiguous().numpy()), [self.where] * len(images))
