"""The stored split: one safetensors file per split and a manifest that holds their digests, checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gauntlet.data.prepare import SPLITS, Prepared
from gauntlet.data.splits import Split
from gauntlet.errors import InputError
from gauntlet.files import canonical_json, write_json
from gauntlet.tensors import read_tensors, tensor_digest, write_tensors

FORMAT = 1
_REMEDY = "delete the folder and run `gauntlet prepare` again"


@dataclass(frozen=True)
class Manifest:
    """What a stored split holds: `digests` and `sizes` per split, the images' shape, classes and channel statistics.

    `digest` stands for all of it, pixels included.
    """

    digest: str
    digests: Mapping[str, str]
    sizes: Mapping[str, int]
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


def write_splits(folder: Path, prepared: Prepared, metadata: Mapping[str, str] | None = None) -> Manifest:
    """Write the splits and, last, their manifest.

    The manifest carries no time and no host; `metadata` stands in the big files.
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
    write_json(folder / "manifest.json", {**content, "digest": _digest(content)})
    return load_manifest(folder)


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a stored split. Raises InputError when it is missing, damaged or was edited."""
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        manifest = Manifest(
            digest,
            {name: content["splits"][name]["digest"] for name in SPLITS},
            {name: content["splits"][name]["n"] for name in SPLITS},
            tuple(content["image_shape"]),
            tuple(content["classes"]),
            tuple(content["mean"]),
            tuple(content["std"]),
        )
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy="run `gauntlet prepare`") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("is no manifest of a stored split", where=str(path), remedy=_REMEDY) from error
    if content.get("format") != FORMAT or _digest(content) != digest:
        raise InputError("was edited, or written by another version", where=str(path), remedy=_REMEDY)
    return manifest


def load_split(folder: Path, name: str) -> Split:
    """Read one split. Raises InputError when a file is missing or damaged, or is not the one its manifest names."""
    manifest = load_manifest(folder)
    if name not in manifest.digests:
        raise InputError(f"there is no split '{name}'", where=str(folder), remedy=f"known: {', '.join(SPLITS)}")
    path = folder / f"{name}.safetensors"
    tensors = read_tensors(path, expected_digest=manifest.digests[name], remedy=_REMEDY)
    return Split(tensors["images"], tensors["labels"])


def _digest(content: Mapping[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(canonical_json(content).encode()).hexdigest()}"
