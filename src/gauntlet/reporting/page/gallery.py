"""The gallery of adversarial images: small PNG files inside the page, as many as a page has room for."""

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

MOST_BYTES = 6 << 20
"""What the images of one page may take: the rest of a large experiment needs the room that is left of 20 MB."""

MOST_EACH = 8
"""Images of one attack on one model at most."""

_MOST_PIXELS = 224

_ROWS = """
    SELECT variant, seed, attack, index, label, adversarial_prediction AS prediction, norm, distance
    FROM evaluations SEMI JOIN wanted USING (variant, seed, attack, index) WHERE status = 'adversarial'
"""


@dataclass(frozen=True)
class Gallery:
    """What is shown, one entry per attack on a variant, as plain values, and how many image pairs had no room."""

    entries: tuple[dict[str, Any], ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class _Kept:
    """A file of images: the samples they belong to, and the places of those that are shown, in order."""

    item: ExamplesFile
    indices: list[int]
    order: list[int] = field(default_factory=list)


def read_gallery(inputs: FigureInputs, *, most_bytes: int = MOST_BYTES) -> Gallery:
    """Encode the images kept of every attack on the first model of every variant that has any.

    Every attack on every variant gets its first image before any gets its second, until `most_bytes` are used.

    Raises InputError for a damaged file.
    """
    files = [kept for item in _chosen(inputs) if (kept := _load(item)) is not None]
    rows = _rows(inputs, files)
    files = [_varied(kept, rows) for kept in files]
    shown: dict[int, list[dict[str, Any]]] = {number: [] for number in range(len(files))}
    left_out = used = 0
    for rank in count():
        having = [(number, kept) for number, kept in enumerate(files) if rank < min(MOST_EACH, len(kept.order))]
        if not having:
            break
        for number, kept in having:
            one = _pair(kept, kept.order[rank], rows, inputs) if used < most_bytes else None
            if one is None:
                left_out += 1
                continue
            used += sum(len(one[name]) for name in ("original", "adversarial", "difference"))
            shown[number].append(one)
    entries = ({**_key(files[number]), "images": images} for number, images in shown.items() if images)
    return Gallery(tuple(entries), left_out)


def _chosen(inputs: FigureInputs) -> Iterator[ExamplesFile]:
    """List one file per variant and attack: of the first seed."""
    first: dict[tuple[str, str], ExamplesFile] = {}
    for item in sorted(inputs.examples, key=lambda item: item.seed):
        if item.variant in inputs.variants and item.path.is_file():
            first.setdefault((item.variant, item.attack), item)
    for variant in inputs.variants:
        yield from (item for item in first.values() if item.variant == variant)


def _load(item: ExamplesFile) -> _Kept | None:
    """See which samples a file has images of; None where the attack fooled nothing."""
    with _opened(item) as file:
        return _Kept(item, file.get_tensor("index").tolist()) if file.keys() else None


@contextmanager
def _opened(item: ExamplesFile) -> Iterator[Any]:
    """Open a file of images, of which only those that are asked for are read."""
    try:
        with safe_open(item.path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        remedy = "delete it and run again"
        raise InputError("these are no adversarial examples", where=str(item.path), remedy=remedy) from error


def _rows(inputs: FigureInputs, files: Sequence[_Kept]) -> Mapping[tuple[Any, ...], dict[str, Any]]:
    """Find the rows of all images with one query, by variant, seed, attack and index."""
    keys = [(kept.item.variant, kept.item.seed, kept.item.attack, index) for kept in files for index in kept.indices]
    if not keys:
        return {}
    columns = zip(("variant", "seed", "attack", "index"), zip(*keys, strict=True), strict=True)
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        evaluations.connection.register("wanted", pa.table({name: list(values) for name, values in columns}))
        found = evaluations.query(_ROWS).to_pylist()
    return {(row["variant"], row["seed"], row["attack"], row["index"]): row for row in found}


def _varied(kept: _Kept, rows: Mapping[tuple[Any, ...], dict[str, Any]]) -> _Kept:
    """Order the images that fooled the model: the first of each true class before any class comes twice."""
    seen: dict[int, int] = {}
    ranked = []
    for place, index in enumerate(kept.indices):
        row = rows.get((kept.item.variant, kept.item.seed, kept.item.attack, index))
        if row is not None:
            seen[row["label"]] = seen.get(row["label"], 0) + 1
            ranked.append((seen[row["label"]], place))
    return replace(kept, order=[place for _, place in sorted(ranked)])


def _key(kept: _Kept) -> dict[str, Any]:
    return {"variant": kept.item.variant, "attack": kept.item.attack, "seed": kept.item.seed}


def _pair(
    kept: _Kept, place: int, rows: Mapping[tuple[Any, ...], dict[str, Any]], inputs: FigureInputs
) -> dict[str, Any]:
    """Encode an original, its adversarial image and their signed difference, with what is known of them."""
    row = rows[kept.item.variant, kept.item.seed, kept.item.attack, kept.indices[place]]
    with _opened(kept.item) as file:
        # A slice of one image, float32 (1, C, H, W): files may hold many.
        original, adversarial = (file.get_slice(name)[place : place + 1][0] for name in ("original", "adversarial"))
    return {
        "index": row["index"],
        "label": inputs.class_name(row["label"]),
        "prediction": inputs.class_name(row["prediction"]),
        "norm": NORM_TEXT.get(row["norm"], row["norm"]),
        "distance": row["distance"],
        "original": _png(original),
        "adversarial": _png(adversarial),
        "difference": _png(_difference(adversarial - original)),
    }


def _difference(change: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour a signed change (C, H, W), averaged over channels, as the figure of adversarial examples does."""
    mean = change.mean(0)
    scaled = mean / (float(np.abs(mean).max()) or 1.0)
    coloured: NDArray[np.float32] = colormaps["RdBu_r"]((scaled + 1) / 2)[..., :3].transpose(2, 0, 1)
    return coloured


def _png(image: NDArray[np.float32]) -> str:
    """Encode an image (C, H, W) in [0, 1] in base64, made smaller where it is large."""
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels[:3].transpose(1, 2, 0))
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
