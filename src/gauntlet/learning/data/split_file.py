"""File of a stored split: safetensors whose images are written in any order and mapped when read.

It has four tensors: ``labels`` int64 `(N,)`, ``hashes`` uint8 `(N, 8)` (first bytes of the sample hashes), ``digests``
uint8 `(chunks, 32)` (SHA-256 of each chunk of images) and ``images`` uint8 `(N, C, H, W)`, in this order. The metadata
hold the digest of the split, which is also in the manifest, and that of the first three tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json
from gauntlet.learning.data.manifest import REMEDY

SPLIT_KEY = "gauntlet.split"
INDEX_KEY = "gauntlet.index"

HASH_BYTES = 8
"""Bytes of a sample hash that are stored."""

_CHUNK_BYTES = 1 << 20
_PAGE_BYTES = 4096
_SLACK_BYTES = 1024
"""Room for metadata that change while the images are written, such as the seconds it took."""
_MAX_HEADER_BYTES = 1 << 24

Table = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class SplitFile:
    """The layout of one file: `count` images of `shape` (C, H, W), after a header of `header_bytes`."""

    path: Path
    count: int
    shape: tuple[int, int, int]
    header_bytes: int

    @classmethod
    def create(cls, path: Path, count: int, shape: tuple[int, int, int], metadata: Mapping[str, str]) -> SplitFile:
        """Make the file with room for a header like the one with `metadata`, and for all tensors."""
        file = cls(path, count, shape, 0)
        needed = 8 + len(file._header(metadata, "sha256:" + "0" * 64, "sha256:" + "0" * 64)) + _SLACK_BYTES
        file = cls(path, count, shape, -(-needed // _PAGE_BYTES) * _PAGE_BYTES)
        with path.open("wb") as stream:
            stream.truncate(file.images_start + count * file.image_bytes)
        return file

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return prod(self.shape)

    @property
    def chunk(self) -> int:
        """Number of images in a chunk, which have one digest; the last chunk may have fewer."""
        return max(1, _CHUNK_BYTES // self.image_bytes)

    @property
    def images_start(self) -> int:
        """Offset of the images in the file."""
        return self.header_bytes + sum(prod(shape) * size for _, shape, size in self._tables().values())

    def finish(self, labels: Table, hashes: Table, metadata: Mapping[str, str]) -> str:
        """Write everything but the images, which are read once more; return the digest of the split.

        The digest is that of the tensors ``images`` and ``labels`` in `tensor_digest`.
        """
        digests = np.empty((-(-self.count // self.chunk), 32), np.uint8)
        split = hashlib.sha256(canonical_json(["images", "torch.uint8", [self.count, *self.shape]]).encode())
        with self.path.open("r+b") as stream:
            stream.seek(self.images_start)
            for number in range(len(digests)):
                content = stream.read(min(self.chunk, self.count - number * self.chunk) * self.image_bytes)
                split.update(content)
                digests[number] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
            split.update(canonical_json(["labels", "torch.int64", [self.count]]).encode())
            split.update(labels.tobytes())
            digest = f"sha256:{split.hexdigest()}"
            tables = b"".join(table.tobytes() for table in (labels, hashes, digests))
            header = self._header(metadata, digest, _index_digest(digest, tables))
            if len(header) > self.header_bytes - 8:
                raise ValueError(f"the header has {len(header)} bytes, and room for {self.header_bytes - 8}")
            stream.seek(0)
            stream.write((self.header_bytes - 8).to_bytes(8, "little") + header.ljust(self.header_bytes - 8) + tables)
        return digest

    def _tables(self) -> dict[str, tuple[str, list[int], int]]:
        """Return type, shape and bytes per value of each tensor before the images."""
        return {
            "labels": ("I64", [self.count], 8),
            "hashes": ("U8", [self.count, HASH_BYTES], 1),
            "digests": ("U8", [-(-self.count // self.chunk), 32], 1),
        }

    def _header(self, metadata: Mapping[str, str], digest: str, index_digest: str) -> bytes:
        # One key: that of `write_tensors`, with the same form.
        entries = {**metadata, SPLIT_KEY: digest, INDEX_KEY: index_digest}
        header: dict[str, Any] = {"__metadata__": {"gauntlet": canonical_json(entries)}}
        start = 0
        for name, (kind, shape, size) in {**self._tables(), "images": ("U8", [self.count, *self.shape], 1)}.items():
            stop = start + prod(shape) * size
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, stop]}
            start = stop
        return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def open_split_file(path: Path, digest: str) -> tuple[SplitFile, Table, Table, Table]:
    """Read a file's layout, labels, hashes and digests of the chunks, and check all but the images.

    Raises InputError, naming the file, if it is missing, damaged, of an earlier version, or does not contain the split
    with this digest.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= _MAX_HEADER_BYTES else {}
            images = header["images"]
            count, *shape = images["shape"]
            metadata = json.loads(header["__metadata__"]["gauntlet"])
            if not {SPLIT_KEY, INDEX_KEY} <= metadata.keys():
                raise InputError("was written by an earlier version", where=str(path), remedy=REMEDY)
            file = SplitFile(path, count, (shape[0], shape[1], shape[2]), 8 + length)
            tables = stream.read(file.images_start - file.header_bytes)
            size = stream.seek(0, 2)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy=REMEDY) from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        problem = "is damaged or no file of a split (pickles are refused)"
        raise InputError(problem, where=str(path), remedy=REMEDY) from error
    if size != file.images_start + count * file.image_bytes:
        raise InputError("is truncated", where=str(path), remedy=REMEDY)
    if metadata[SPLIT_KEY] != digest or metadata[INDEX_KEY] != _index_digest(digest, tables):
        raise InputError("the content does not match its manifest", where=str(path), remedy=REMEDY)
    parts = []
    start = 0
    for kind, table_shape, size in file._tables().values():
        stop = start + prod(table_shape) * size
        kind = "<i8" if kind == "I64" else "u1"
        parts.append(np.frombuffer(tables[start:stop], kind).reshape(table_shape))
        start = stop
    labels, hashes, digests = parts
    return file, labels, hashes, digests


def _index_digest(digest: str, tables: bytes) -> str:
    return f"sha256:{hashlib.sha256(digest.encode() + tables).hexdigest()}"
