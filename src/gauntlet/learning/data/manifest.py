"""What the stored split of a data set holds, read from its manifest: no pixels, and so no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json

SPLITS = ("train", "validation", "test")
FORMAT = 1
REMEDY = "delete the folder and run `gauntlet prepare` again"


@dataclass(frozen=True)
class DataManifest:
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


def load_data_manifest(folder: Path) -> DataManifest:
    """Read the manifest of a stored split. Raises InputError when it is missing, damaged or was edited."""
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        manifest = DataManifest(
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
        raise InputError("is no manifest of a stored split", where=str(path), remedy=REMEDY) from error
    if content.get("format") != FORMAT or manifest_digest(content) != digest:
        raise InputError("was edited, or written by another version", where=str(path), remedy=REMEDY)
    return manifest


def manifest_digest(content: Mapping[str, Any]) -> str:
    """Give the digest of a manifest's content, itself left out."""
    return f"sha256:{hashlib.sha256(canonical_json(content).encode()).hexdigest()}"
