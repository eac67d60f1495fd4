"""Batches of a split on the device or in its file, in an order seeded per epoch; no worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import Augmentation
from gauntlet.learning.data.prefetching import prefetched
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredImages, StoredSplit

_ROUNDING = 1e-6
"""Distance from [0, 1] that is accepted of a user's augmentation."""


class Batches:
    """Shuffled and augmented float batches on `device` of training images in uint8.

    Images in memory are kept on the device; those of a stored split are read from its file by a thread, a few batches
    ahead, with equal results. The order of epoch e is a function of (seed, e), the augmentation of step s a function of
    (seed, e, s): a run resumed in the middle of an epoch sees the same batches as an uninterrupted one.
    """

    def __init__(
        self,
        split: Split | StoredSplit,
        *,
        batch_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        augmentations: Sequence[Augmentation] = (),
    ) -> None:
        self.images: Tensor | StoredImages = split.images if isinstance(split, StoredSplit) else split.images.to(device)
        self.labels = split.labels.to(device)
        self.batch_size, self.seed, self.augmentations = batch_size, seed, tuple(augmentations)

    @property
    def steps(self) -> int:
        """Number of batches per epoch; a last batch of one image is dropped, since it has no batch statistics."""
        full, rest = divmod(len(self.labels), self.batch_size)
        return max(1, full + (rest > 1))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's batches from step `start`: images float32 `(B, C, H, W)` in [0, 1], labels int64 `(B,)`.

        Raises InputError for an augmentation that makes anything else of the first batch.
        """
        device = self.labels.device
        order = torch.randperm(len(self.labels), generator=generator("train", self.seed, "order", epoch))
        if not isinstance(self.images, StoredImages):
            order = order.to(device)
        rows = (order[step * self.batch_size : (step + 1) * self.batch_size] for step in range(start, self.steps))
        for step, (indices, pixels) in enumerate(self._selected(rows), start):
            images = to_unit(pixels)
            if self.augmentations:
                random = generator("train", self.seed, "augmentation", epoch, step, device=device)
                for augment in self.augmentations:
                    augmented = augment(images, random)
                    if step == start:
                        _check_augmented(augment, images, augmented)
                    images = augmented
            yield images, self.labels.index_select(0, indices)

    def _selected(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the indices of each batch and its images, uint8 `(B, C, H, W)`, on the device."""
        device, images = self.labels.device, self.images
        if isinstance(images, StoredImages):
            for indices, pixels in prefetched((indices, self._pinned(images[indices])) for indices in rows):
                yield indices.to(device), pixels.to(device, non_blocking=True)
        else:
            for indices in rows:
                # `index_select` copies whole images; indexing copies single pixels and is twenty times slower.
                yield indices, images.index_select(0, indices)

    def _pinned(self, pixels: Tensor) -> Tensor:
        """Return images in memory from which a GPU copies while it computes."""
        return pixels.pin_memory() if self.labels.device.type == "cuda" else pixels


def _check_augmented(augment: Augmentation, images: Tensor, augmented: Tensor) -> None:
    """Raise InputError unless an augmentation returns images in [0, 1] of the same shape and type."""
    expected, found = (_described(value) for value in (images, augmented))
    if found == expected:
        low, high = float(augmented.amin()), float(augmented.amax())
        if low >= -_ROUNDING and high <= 1 + _ROUNDING:
            return
        found = f"pixels from {low:g} to {high:g}"
    name = getattr(augment.func if isinstance(augment, partial) else augment, "__name__", "an augmentation")
    remedy = f"return {expected}, with pixels in [0, 1]"
    raise InputError(f"{name} returns {found}", where="training.augmentation", remedy=remedy)


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device.type}"
