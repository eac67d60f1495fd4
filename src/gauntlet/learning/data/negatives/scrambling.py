"""Images whose pixels, or blocks of them, have lost their places."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.data.negatives import Negatives, sample_rows
from gauntlet.registry import NEGATIVES, PositiveFloat, PositiveInt


@NEGATIVES.register("scrambling", source="source C, methods")
class Scrambling(Negatives):
    """Permute an image's pixels, or its blocks of rows and its blocks of columns; one of these ways per batch.

    The ways are one of pixels, unless `pixels` is false, and one for each of `blocks`, in pixels (the source: 5 and 7
    for MNIST, 3 and 9 for CIFAR-10); each is as likely as the others. A last block may be smaller. Every image is
    permuted by itself, all its channels alike; blocks are never all left where they are.
    """

    def __init__(
        self,
        *,
        blocks: tuple[PositiveInt, ...] = (5, 7),
        pixels: bool = True,
        share: PositiveFloat = 1.0,
        start_epoch: PositiveInt = 1,
    ) -> None:
        self.blocks, self.ways = blocks, (*([None] if pixels else []), *blocks)
        self.share, self.start_epoch = share, start_epoch
        if not self.ways:
            raise InputError("nothing to scramble", where="training.negatives", remedy="name `blocks` or set `pixels`")

    def make(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Make scrambled images `(count(B), C, H, W)`. Raises InputError when an image has one block only."""
        height, width = images.shape[2:]
        for block in self.blocks:
            if block >= max(height, width):
                problem = f"an image of {height}x{width} has one block of {block} pixels only"
                raise InputError(problem, where="training.negatives.blocks", remedy="use smaller blocks")
        # The seed is a number of this batch alone, and reading it does not wait for the device.
        way = self.ways[generator.initial_seed() % len(self.ways)]
        chosen = images[sample_rows(self.count(len(images)), len(images), generator)]
        return scramble_pixels(chosen, generator) if way is None else scramble_blocks(chosen, way, generator)


def scramble_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the pixels of each image `(B, C, H, W)`, all channels alike."""
    count, channels, height, width = images.shape
    order = _orders(count, height * width, 1, generator)
    return images.flatten(2).gather(2, order[:, None, :].expand(-1, channels, -1)).view_as(images)


def scramble_blocks(images: Tensor, block: int, generator: torch.Generator) -> Tensor:
    """Permute the blocks of `block` rows, and those of `block` columns, of each image `(B, C, H, W)`."""
    count, _, height, width = images.shape
    rows = _orders(count, height, block, generator)
    columns = _orders(count, width, block, generator)
    # An image left as it is would be a negative of its own class: its first block goes to the end.
    same = (_as_they_were(rows) & _as_they_were(columns))[:, None]
    rows = torch.where(same, rows.roll(-block, 1), rows)
    columns = torch.where(same, columns.roll(-block, 1), columns)
    sample = torch.arange(count, device=images.device)[:, None, None]
    permuted = images.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]]
    return permuted.movedim(-1, 1).contiguous()


def _orders(count: int, size: int, block: int, generator: torch.Generator) -> Tensor:
    """Draw `count` orders of `size` places, `(count, size)`, in which the places of a block stay side by side."""
    places = torch.arange(size, device=generator.device)
    blocks = -(-size // block)
    ranks = torch.rand((count, blocks), generator=generator, device=generator.device).argsort(dim=1)
    return (ranks[:, places // block] * block + places % block).argsort(dim=1)


def _as_they_were(orders: Tensor) -> Tensor:
    return (orders == torch.arange(orders.shape[1], device=orders.device)).all(dim=1)
