"""Storage of a data set: one safetensors file per split, and a manifest with the digests checked on reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_json
from gauntlet.core.tensors import read_tensors, tensor_digest, write_tensors
from gauntlet.learning.data.manifest import FORMAT, REMEDY, SPLITS, DataManifest, load_data_manifest, manifest_digest
from gauntlet.learning.data.prepare import PreparedData
from gauntlet.learning.data.splits import Split


def write_splits(folder: Path, prepared: PreparedData, metadata: Mapping[str, str] | None = None) -> DataManifest:
    """Write the splits and, last, their manifest.

    `metadata` is written to the split files only: the manifest contains neither time nor host.
    """
    splits: dict[str, dict[str, Any]] = {}
    for name, split in prepared.splits.items():
        tensors = {"images": split.images, "labels": split.labels}
        write_tensors(folder / f"{name}.safetensors", tensors, metadata)
        splits[name] = {"n": len(split), "digest": tensor_digest(tensors)}
    content = {
        "format": FORMAT,
        "splits": splits,
        "image_shape": list(prepared.splits["train"].image_shape),
        "num_classes": len(prepared.classes),
        "classes": list(prepared.classes),
        "mean": list(prepared.mean),
        "std": list(prepared.std),
    }
    if prepared.duplicates:
        content["duplicates"] = dict(prepared.duplicates)
    write_json(folder / "manifest.json", {**content, "digest": manifest_digest(content)})
    return load_data_manifest(folder)


def load_split(folder: Path, name: str) -> Split:
    """Read one split. Raises InputError if a file is missing or damaged, or if its digest is not the manifest's."""
    manifest = load_data_manifest(folder)
    if name not in manifest.digests:
        raise InputError(f"there is no split '{name}'", where=str(folder), remedy=f"known: {', '.join(SPLITS)}")
    path = folder / f"{name}.safetensors"
    tensors = read_tensors(path, expected_digest=manifest.digests[name], remedy=REMEDY)
    return Split(tensors["images"], tensors["labels"])
