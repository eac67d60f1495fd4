"""Blocks of images as a source reads them: decoded, hashed and written one image at a time, in any process.

This module loads no torch: each decoding process would need 300 MB for it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gauntlet.core.errors import InputError
from gauntlet.learning.data.decoding import Array, decode
from gauntlet.learning.data.split_file import HASH_BYTES

LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
"""The values in [0, 1] of the 256 levels of a pixel, as `to_unit` computes them."""

Slots = np.ndarray[Any, np.dtype[np.int64]]
"""Destinations of images, `(n, 2)`: number of the split, or -1 for an image that is not stored, and position."""


@dataclass(frozen=True)
class Block:
    """Some images of a split in the order of its source: encoded, files, or uint8 `(C, H, W)`; `names` for messages.

    None is an encoded image that is missing. `size` and `upright` are arguments of `decode`.
    """

    images: Sequence[bytes | Path | Array | None]
    names: Sequence[str]
    size: int | None = None
    upright: bool = False

    @property
    def encoded_bytes(self) -> int:
        """Size of the encoded images."""
        return sum(len(image) for image in self.images if isinstance(image, bytes))

    def decoded(self, row: int, orientations: Counter[int] | None = None) -> Array:
        """Return an image as uint8 `(C, H, W)`. Raises InputError that names it."""
        image = self.images[row]
        if isinstance(image, np.ndarray):
            return image
        where = self.names[row]
        if image is None:
            remedy = "the table must contain the encoded images, not their paths"
            raise InputError("has no image bytes", where=where, remedy=remedy)
        return decode(image, where=where, size=self.size, upright=self.upright, orientations=orientations)


class Sink(Protocol):
    """Receiver of decoded images."""

    def write(self, split: int, position: int, image: Array) -> None:
        """Store an image, uint8 `(C, H, W)`."""
        ...


@dataclass(frozen=True)
class ArraySink:
    """Images of each split in memory, uint8 `(N, C, H, W)`."""

    arrays: Sequence[Array]

    def write(self, split: int, position: int, image: Array) -> None:
        """Store an image."""
        self.arrays[split][position] = image


@dataclass(frozen=True)
class FileSink:
    """Files of the splits, each with the offset at which its images begin."""

    files: Sequence[tuple[Path, int]]
    handles: dict[int, int] = field(default_factory=dict, compare=False)

    def write(self, split: int, position: int, image: Array) -> None:
        """Store an image. Raises OSError if the disk is full."""
        path, offset = self.files[split]
        if split not in self.handles:
            self.handles[split] = os.open(path, os.O_WRONLY)
        content = memoryview(image.tobytes())
        start = offset + position * len(content)
        while content:
            written = os.pwrite(self.handles[split], content, start)
            content, start = content[written:], start + written

    def close(self) -> None:
        """Close the files."""
        while self.handles:
            os.close(self.handles.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "handles": {}}


class ColorFound(Exception):
    """A color image among images that are stored as gray ones."""


@dataclass(frozen=True)
class BlockRecord:
    """Hashes and statistics of a block.

    `hashes`, uint8 `(n, 8)`, are the first bytes of each image's sample hash (zeros for an image that is not stored).
    `levels`, int64 `(splits, C, 256)`, counts the levels of the pixels of each split and channel.
    """

    hashes: Array
    levels: Slots
    orientations: Counter[int]


def store_block(block: Block, slots: Slots, sink: Sink, shape: Sequence[int], splits: int) -> BlockRecord:
    """Decode the images of a block, check that they have `shape` (C, H, W), and write and hash those with a slot.

    Gray images become color images where C is 3. Raises InputError that names the first image that cannot be stored,
    ColorFound for a color image where C is 1.
    """
    orientations: Counter[int] = Counter()
    hashes = np.zeros((len(slots), HASH_BYTES), np.uint8)
    levels = np.zeros((splits, shape[0], 256), np.int64)
    head = str(tuple(shape)).encode()
    for row, (split, position) in enumerate(slots.tolist()):
        image = block.decoded(row, orientations)
        if image.shape[1:] != tuple(shape[1:]):
            sizes = "is {}x{} pixels, the images before it {}x{}".format(*image.shape[1:], *shape[1:])
            raise InputError(sizes, where=block.names[row], remedy="set `size:` to scale all images to one size")
        if image.shape[0] > shape[0]:
            raise ColorFound
        if split < 0:
            continue
        image = np.ascontiguousarray(np.broadcast_to(image, shape))
        sink.write(split, position, image)
        digest = hashlib.sha256(head)
        digest.update(LEVELS[image].data)
        hashes[row] = np.frombuffer(digest.digest()[:HASH_BYTES], np.uint8)
        for channel in range(shape[0]):
            levels[split, channel] += np.bincount(image[channel].ravel(), minlength=256)
    return BlockRecord(hashes, levels, orientations)
