"""Images of a stored split: mapped from its file, read and checked where they are asked for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.data.manifest import REMEDY, SPLITS, load_data_manifest
from gauntlet.learning.data.split_file import SplitFile, open_split_file
from gauntlet.learning.data.splits import Split, sample_hashes, to_unit

Rows = slice | Sequence[int] | Tensor
"""Indices of images."""


class StoredImages:
    """Images uint8 `(N, C, H, W)` in a file; indexing reads them onto the CPU.

    A chunk is compared with its digest, row of `digests`, when an image of it is read for the first time. Reading
    raises InputError that names the file and the images of a damaged chunk.
    """

    dtype = torch.uint8

    def __init__(self, file: SplitFile, digests: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._file, self._digests = file, digests
        self._unchecked = np.ones(len(digests), dtype=bool)
        self.shape = torch.Size((file.count, *file.shape))
        size = (file.count, file.image_bytes)
        self._bytes = (
            np.memmap(file.path, np.uint8, "r", file.images_start, size) if file.count else np.empty(size, np.uint8)
        )
        with warnings.catch_warnings():
            # Nothing writes into the tensor, which torch cannot mark as read-only.
            warnings.simplefilter("ignore", UserWarning)
            self._rows = torch.from_numpy(self._bytes)

    def __len__(self) -> int:
        return self._file.count

    @property
    def bytes(self) -> int:
        """Size of all images."""
        return self._file.count * self._file.image_bytes

    def __getitem__(self, rows: Rows) -> Tensor:
        """Read the images with these indices."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                self._check(np.arange(start // self._file.chunk, -(-stop // self._file.chunk)))
                return self._rows[start:stop].clone().view(-1, *self._file.shape)
            rows = range(start, stop, step)
        indices = torch.as_tensor(rows, dtype=torch.int64, device="cpu")
        self._check(np.unique(indices.numpy() // self._file.chunk))
        return self._rows.index_select(0, indices).view(-1, *self._file.shape)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the images, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def load(self, device: str | torch.device = "cpu") -> Tensor:
        """Read all images onto a device."""
        loaded = torch.empty(self.shape, dtype=torch.uint8, device=device)
        start = 0
        for images in self.split(16 * self._file.chunk):
            loaded[start : (start := start + len(images))] = images
        return loaded

    def _check(self, chunks: np.ndarray[Any, Any]) -> None:
        for number in chunks[self._unchecked[chunks]].tolist():
            start = number * self._file.chunk
            stop = min(start + self._file.chunk, len(self))
            if hashlib.sha256(self._bytes[start:stop].data).digest() != self._digests[number].tobytes():
                problem = f"images {start} to {stop - 1} do not match their digest"
                raise InputError(problem, where=str(self._file.path), remedy=REMEDY)
            self._unchecked[number] = False


@dataclass(frozen=True)
class StoredSplit:
    """Labeled images in a file: `labels` int64 `(N,)`, `hashes` uint8 `(N, 8)`, the first bytes of sample hashes."""

    images: StoredImages
    labels: Tensor
    hashes: np.ndarray[Any, np.dtype[np.uint8]]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: str | torch.device) -> StoredSplit:
        """Return the split with its labels on a device; images remain in the file."""
        return replace(self, labels=self.labels.to(device))

    def load(self, device: str | torch.device = "cpu") -> Split:
        """Read the split onto a device."""
        return Split(self.images.load(device), self.labels.to(device))


class UnitImages:
    """The first `count` images of a stored split (all if None) as float32 in [0, 1]; indexing reads them."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, split: StoredSplit, count: int | None = None) -> None:
        self._split = split
        self.shape = torch.Size((min(len(split), len(split) if count is None else count), *split.image_shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Tensor:
        """Read the images with these indices."""
        return to_unit(self._split.images[slice(*rows.indices(len(self))) if isinstance(rows, slice) else rows])

    def hashes(self, rows: slice | Sequence[int]) -> list[str]:
        """Return the sample hashes of the images with these indices."""
        return [row.tobytes().hex() for row in self._split.hashes[: len(self)][rows]]


def hashes_of(images: Tensor | UnitImages, rows: slice | Sequence[int]) -> list[str]:
    """Return the sample hashes of some of the images; those of stored images were made by `gauntlet prepare`."""
    return images.hashes(rows) if isinstance(images, UnitImages) else sample_hashes(images[rows].to(torch.float32))


def open_split(folder: Path, name: str) -> StoredSplit:
    """Open one split, whose images are read where they are asked for.

    Raises InputError if a file is missing or damaged, or does not contain the split that the manifest states.
    """
    manifest = load_data_manifest(folder)
    if name not in manifest.digests:
        raise InputError(f"there is no split '{name}'", where=str(folder), remedy=f"known: {', '.join(SPLITS)}")
    file, labels, hashes, digests = open_split_file(folder / f"{name}.safetensors", manifest.digests[name])
    return StoredSplit(StoredImages(file, digests), torch.from_numpy(labels.copy()), hashes)


def load_split(folder: Path, name: str) -> Split:
    """Read one split into memory. Raises InputError as `open_split` does, and for a damaged chunk of images."""
    return open_split(folder, name).load()
