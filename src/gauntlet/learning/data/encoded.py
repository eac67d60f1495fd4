"""Splits whose images are decoded when they are asked for, in the order of their source."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gauntlet.learning.data.blocks import ArraySink, Block, ColorFound, store_block

log = logging.getLogger("gauntlet")


@dataclass(frozen=True)
class EncodedSplit:
    """Labeled images that need not fit into memory: `labels` int64 `(N,)`, and a function that reads N images anew.

    `where` names the split in messages. `parallel` states that the blocks contain encoded images or files, which other
    processes can decode; `warns_of_orientation` that EXIF orientations are not applied.
    """

    labels: Tensor
    read: Callable[[], Iterator[Block]]
    where: str
    parallel: bool = True
    warns_of_orientation: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def with_labels(self, labels: Tensor) -> EncodedSplit:
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the first image; another one may have color."""
        channels, height, width = next(iter(self.read())).decoded(0).shape
        return channels, height, width

    @cached_property
    def images(self) -> Tensor:
        """All images, uint8 `(N, C, H, W)`, decoded into memory."""
        try:
            return self._decode(self.image_shape)
        except ColorFound:
            return self._decode((3, *self.image_shape[1:]))

    def report_orientations(self, orientations: Counter[int]) -> None:
        """Warn of images whose EXIF orientation is not applied, as torchvision's ImageFolder reads them."""
        turned = orientations.total()
        if turned and self.warns_of_orientation:
            log.warning(
                "%s: %d images have an EXIF orientation, which is not applied; turn them if it should be",
                self.where,
                turned,
            )

    def _decode(self, shape: tuple[int, int, int]) -> Tensor:
        array = np.empty((len(self), *shape), np.uint8)
        orientations: Counter[int] = Counter()
        start = 0
        for block in self.read():
            positions = np.arange(start, start := start + len(block.images))
            slots = np.stack([np.zeros_like(positions), positions], 1)
            orientations += store_block(block, slots, ArraySink([array]), shape, 1).orientations
        self.report_orientations(orientations)
        return torch.from_numpy(array)
