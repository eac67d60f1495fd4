"""Manifest of a stored data set: sizes, digests, image shape, classes and statistics, read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json, read_json

SPLITS = ("train", "validation", "test")
_ADJECTIVES = {"train": "training", "validation": "validation", "test": "test"}
FORMAT = 1
REMEDY = "delete the folder and run `gauntlet prepare` again"


class _Record(BaseModel):
    # Unknown keys are kept, so that the digest covers them.
    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


class StoredSplit(_Record):
    """Number of images of a split, and the digest of its tensors."""

    n: int
    digest: str


class StoredSplits(_Record):
    """The three splits of a stored data set."""

    train: StoredSplit
    validation: StoredSplit
    test: StoredSplit


class DataManifest(_Record):
    """Content of ``manifest.json``; `mean` and `std` are per channel of the training images in [0, 1].

    `digest` identifies everything else in the manifest, and through the digests of the splits the pixels as well.
    `duplicates` has, for each pair of splits such as ``train/test``, the number of images of the second that are images
    of the first too; the manifest of a data set without duplicates does not have the key.
    """

    format: int
    digest: str
    splits: StoredSplits
    image_shape: tuple[int, int, int]
    num_classes: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    duplicates: dict[str, int] = Field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each split's tensors."""
        return {name: getattr(self.splits, name).digest for name in SPLITS}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each split."""
        return {name: getattr(self.splits, name).n for name in SPLITS}

    @property
    def duplicate_notes(self) -> list[str]:
        """A sentence for each pair of splits that share images."""
        return duplicate_notes(self.duplicates, self.sizes)


def load_data_manifest(folder: Path) -> DataManifest:
    """Load the manifest of a stored data set. Raises InputError if it is missing, damaged or was edited."""
    path = folder / "manifest.json"
    manifest = read_json(
        path, DataManifest, kind="manifest of a stored split", missing="run `gauntlet prepare`", remedy=REMEDY
    )
    if manifest.format != FORMAT or manifest.digest != manifest_digest(
        manifest.model_dump(exclude={"digest"}, exclude_unset=True)
    ):
        raise InputError("was edited, or written by another version", where=str(path), remedy=REMEDY)
    return manifest


def duplicate_notes(duplicates: Mapping[str, int], sizes: Mapping[str, int]) -> list[str]:
    """Return a sentence for each pair of splits that share images, such as ``train/test``, with their number."""
    notes = []
    for pair, count in duplicates.items():
        first, second = pair.split("/")
        images = f"{count} of {sizes[second]} {_ADJECTIVES[second]} images"
        notes.append(f"{images} are {_ADJECTIVES[first]} images too: results on them do not show generalization.")
    return notes


def manifest_digest(content: Mapping[str, Any]) -> str:
    """Return the digest of a manifest's content without its key `digest`."""
    return f"sha256:{hashlib.sha256(canonical_json(content).encode()).hexdigest()}"
