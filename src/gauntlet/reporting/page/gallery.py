"""The gallery of adversarial images: small PNG images in the page, up to a total size."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from gauntlet.core.errors import InputError
from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.figures.inputs import ExamplesFile, FigureInputs
from gauntlet.reporting.pictures import change_picture, picture

MOST_BYTES = 6 << 20
"""Limit of the size of all images; the rest of a large page needs what is left of 20 MB."""

MOST_EACH = 8
"""Limit of the number of images of one attack on one model."""

_MOST_PIXELS = 224
_SIGNED_COLORS = colormaps["RdBu_r"].with_extremes(bad="white")

_ROWS = """
    SELECT variant, seed, attack, index, label, adversarial_prediction AS prediction, norm, distance
    FROM evaluations SEMI JOIN images USING (variant, seed, attack, index) WHERE fooled
"""


@dataclass(frozen=True)
class Gallery:
    """One entry per attack on a variant, as plain values, and the number of image pairs that are left out."""

    entries: tuple[dict[str, Any], ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class _ImageFile:
    """A file of images: their sample indices, and the positions of the images to show, in order."""

    item: ExamplesFile
    indices: list[int]
    order: list[int] = field(default_factory=list)


def read_gallery(inputs: FigureInputs, *, most_bytes: int = MOST_BYTES) -> Gallery:
    """Encode the images of every attack, on the first seed of each variant that has any.

    The first image of every attack on every variant comes before the second of any, until `most_bytes` are used.

    Raises InputError for a damaged file.
    """
    files = [file for item in _first_seeds(inputs) if (file := _load(item)) is not None]
    rows = _rows(inputs, files)
    files = [_by_class(file, rows) for file in files]
    images: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(files))}
    left_out = used = 0
    for rank in count():
        remaining = [(number, file) for number, file in enumerate(files) if rank < min(MOST_EACH, len(file.order))]
        if not remaining:
            break
        for number, file in remaining:
            if used >= most_bytes:
                left_out += 1
                continue
            image = _encode(file, file.order[rank], rows, inputs)
            used += sum(len(image[name]) for name in ("original", "adversarial", "difference"))
            images[number].append(image)
    entries = ({**_key(files[number]), "images": encoded} for number, encoded in images.items() if encoded)
    return Gallery(tuple(entries), left_out)


def _first_seeds(inputs: FigureInputs) -> Iterator[ExamplesFile]:
    """Yield one file per variant and attack, of the first seed."""
    first: dict[tuple[str, str], ExamplesFile] = {}
    for item in sorted(inputs.examples, key=lambda item: item.seed):
        if item.variant in inputs.variants and item.path.is_file():
            first.setdefault((item.variant, item.attack), item)
    for variant in inputs.variants:
        yield from (item for item in first.values() if item.variant == variant)


def _load(item: ExamplesFile) -> _ImageFile | None:
    """Read the sample indices of a file; None if it has no images, since the attack fooled nothing."""
    with _open(item) as file:
        return _ImageFile(item, file.get_tensor("index").tolist()) if file.keys() else None


@contextmanager
def _open(item: ExamplesFile) -> Iterator[Any]:
    """Open a file of images without reading them."""
    try:
        with safe_open(item.path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        remedy = "delete it and run again"
        raise InputError("not a file of adversarial examples", where=str(item.path), remedy=remedy) from error


def _rows(inputs: FigureInputs, files: Sequence[_ImageFile]) -> Mapping[tuple[Any, ...], dict[str, Any]]:
    """Return the result rows of all images, with one query, by variant, seed, attack and index."""
    keys = [(file.item.variant, file.item.seed, file.item.attack, index) for file in files for index in file.indices]
    if not keys:
        return {}
    columns = zip(("variant", "seed", "attack", "index"), zip(*keys, strict=True), strict=True)
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        evaluations.connection.register("images", pa.table({name: list(values) for name, values in columns}))
        rows = evaluations.query(_ROWS).to_pylist()
    return {(row["variant"], row["seed"], row["attack"], row["index"]): row for row in rows}


def _by_class(file: _ImageFile, rows: Mapping[tuple[Any, ...], dict[str, Any]]) -> _ImageFile:
    """Order the images that fooled the model: the first of each true class, then the second of each, and so on."""
    counts: dict[int, int] = {}
    ranked = []
    for position, index in enumerate(file.indices):
        row = rows.get((file.item.variant, file.item.seed, file.item.attack, index))
        if row is not None:
            counts[row["label"]] = counts.get(row["label"], 0) + 1
            ranked.append((counts[row["label"]], position))
    return replace(file, order=[position for _, position in sorted(ranked)])


def _key(file: _ImageFile) -> dict[str, Any]:
    return {"variant": file.item.variant, "attack": file.item.attack, "seed": file.item.seed}


def _encode(
    file: _ImageFile, position: int, rows: Mapping[tuple[Any, ...], dict[str, Any]], inputs: FigureInputs
) -> dict[str, Any]:
    """Encode an original, its adversarial image and their signed difference, with classes and distance."""
    row = rows[file.item.variant, file.item.seed, file.item.attack, file.indices[position]]
    with _open(file.item) as tensors:
        # One image is read, float32 (1, C, H, W): files may hold many.
        original, adversarial = (
            tensors.get_slice(name)[position : position + 1][0] for name in ("original", "adversarial")
        )
    return {
        "index": row["index"],
        "label": inputs.class_name(row["label"]),
        "prediction": inputs.class_name(row["prediction"]),
        "norm": NORM_TEXT.get(row["norm"], row["norm"]),
        "distance": row["distance"],
        "original": _png(picture(original)),
        "adversarial": _png(picture(adversarial)),
        "difference": _png(_difference(adversarial - original)),
    }


def _difference(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Color a signed change (C, H, W), as in the figure of adversarial examples: (h, w, 3)."""
    signed = change_picture(change)
    scaled = signed / (float(np.nanmax(np.abs(signed))) or 1.0)
    colors: NDArray[np.float32] = _SIGNED_COLORS((scaled + 1) / 2)[..., :3]
    return colors


def _png(pixels: NDArray[np.float32]) -> str:
    """Encode gray values (h, w) or colors (h, w, 3) in [0, 1] as PNG in base64, reduced if the image is large."""
    encoded = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    encoded.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    content = io.BytesIO()
    encoded.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
