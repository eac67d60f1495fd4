"""Small images, folders of images and tables of images."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from gauntlet.learning.data.raw_data import RawData

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(red: int, *, mode: str = "RGB", size: tuple[int, int] = (6, 6)) -> Image.Image:
    """Return a one-colored image."""
    return Image.new(mode, size, red if mode == "L" else (red, 0, 0))


def encoded(image: Image.Image) -> bytes:
    """Return the image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def folder_of(root: Path, counts: dict[str, int], *, mode: str = "RGB", size: tuple[int, int] = (6, 6)) -> None:
    """Write `counts` images of each class; the red of an image is its number."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(number, mode=mode, size=size).save(root / name / f"{number}.png")


def table_of(
    labels: Any, *, names: Sequence[str] | None = None, start: int = 0, mode: str = "RGB", column: str = "label"
) -> pa.Table:
    """Return a table with an image per label, which is a sequence or an array; the red of an image is its number.

    With `names` the metadata have class names, as the `datasets` library writes them.
    """
    images = [{"bytes": encoded(picture(start + row, mode=mode)), "path": None} for row in range(len(labels))]
    table = pa.table({"image": pa.array(images, IMAGE), column: labels})
    if names is None:
        return table
    features = {column: {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(table: pa.Table, path: Path) -> None:
    """Write a table, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def decoded(raw: RawData) -> Tensor:
    """Decode all images of the training split, uint8 `(N, C, H, W)`."""
    assert raw.train is not None
    return raw.train.images
