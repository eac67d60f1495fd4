"""Scrambled images: permutations of pixels, or of blocks of rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.data.negatives import Negatives, sample_rows
from gauntlet.registry import NEGATIVES, PositiveFloat, PositiveInt


@NEGATIVES.register("scrambling", source="Le 2019, journal of logic-inspired networks")
class Scrambling(Negatives):
    """Permute an image's pixels, or its blocks of rows and its blocks of columns; the choice is made per batch.

    The choices are equally likely: single pixels, unless `pixels` is false, and each block size in `blocks`, in pixels
    (the journal: 5 and 7 for MNIST, 3 and 9 for CIFAR-10). The last block may be smaller. Each image has its own
    permutation, the same for all channels; the identity is excluded for blocks.
    """

    def __init__(
        self,
        *,
        blocks: tuple[PositiveInt, ...] = (5, 7),
        pixels: bool = True,
        share: PositiveFloat = 1.0,
        start_epoch: PositiveInt = 1,
    ) -> None:
        self.blocks, self.choices = blocks, (*([None] if pixels else []), *blocks)
        self.share, self.start_epoch = share, start_epoch
        if not self.choices:
            raise InputError("nothing to scramble", where="training.negatives", remedy="set `blocks` or `pixels: true`")

    def make(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Make scrambled images `(count(B), C, H, W)`. Raises InputError if an image consists of a single block."""
        height, width = images.shape[2:]
        for block in self.blocks:
            if block >= max(height, width):
                problem = f"an image of {height}x{width} has only one block of {block} pixels"
                raise InputError(problem, where="training.negatives.blocks", remedy="use smaller blocks")
        # The seed differs from batch to batch, and reading it does not wait for the device as a draw would.
        block_size = self.choices[generator.initial_seed() % len(self.choices)]
        sampled = images[sample_rows(self.count(len(images)), len(images), generator)]
        if block_size is None:
            return scramble_pixels(sampled, generator)
        return scramble_blocks(sampled, block_size, generator)


def scramble_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the pixels of each image `(B, C, H, W)`, all channels alike."""
    count, channels, height, width = images.shape
    permutations = _permutations(count, height * width, 1, generator)
    return images.flatten(2).gather(2, permutations[:, None, :].expand(-1, channels, -1)).view_as(images)


def scramble_blocks(images: Tensor, block: int, generator: torch.Generator) -> Tensor:
    """Permute the blocks of `block` rows, and those of `block` columns, of each image `(B, C, H, W)`."""
    count, _, height, width = images.shape
    rows = _permutations(count, height, block, generator)
    columns = _permutations(count, width, block, generator)
    # An unchanged image would be a negative of its own class, so its first block is moved to the end; where all rows
    # (or all columns) are one block, a move by all of them changes nothing.
    unchanged = (_is_identity(rows) & _is_identity(columns))[:, None]
    rows = torch.where(unchanged, rows.roll(-min(block, height), 1), rows)
    columns = torch.where(unchanged, columns.roll(-min(block, width), 1), columns)
    sample = torch.arange(count, device=images.device)[:, None, None]
    permuted = images.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]]
    return permuted.movedim(-1, 1).contiguous()


def _permutations(count: int, size: int, block: int, generator: torch.Generator) -> Tensor:
    """Draw `count` permutations of `size` indices, `(count, size)`, that keep the indices of a block together."""
    indices = torch.arange(size, device=generator.device)
    blocks = -(-size // block)
    ranks = torch.rand((count, blocks), generator=generator, device=generator.device).argsort(dim=1)
    return (ranks[:, indices // block] * block + indices % block).argsort(dim=1)


def _is_identity(permutations: Tensor) -> Tensor:
    return (permutations == torch.arange(permutations.shape[1], device=permutations.device)).all(dim=1)
