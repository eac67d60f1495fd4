"""Decoding of image files, and of images in parquet tables, to uint8 arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gauntlet.core.errors import InputError

Array = np.ndarray[Any, np.dtype[np.uint8]]

_GRAY_MODES = ("1", "L", "LA")


def decode(encoded: bytes | Path, *, where: str, size: int | None = None) -> Array:
    """Decode one image file to uint8 `(C, H, W)`; C is 1 for grayscale images, else 3.

    Transparency is dropped. With `size` the shorter side is scaled to it and the center square is cropped. Raises
    InputError that names `where`.
    """
    try:
        with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as image:
            return to_array(image, where=where, size=size)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=where) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("is damaged or not an image", where=where, remedy="replace or remove it") from error


def to_array(image: Image.Image, *, where: str, size: int | None = None) -> Array:
    """Convert an opened image to uint8 `(C, H, W)`, as `decode` does."""
    if image.mode.startswith(("I", "F")):
        raise InputError(f"has pixels of mode {image.mode}", where=where, remedy="convert it to 8 bits per channel")
    plain = image.convert("L" if image.mode in _GRAY_MODES else "RGB")
    if size is not None:
        plain = _square(plain, size)
    array = np.asarray(plain, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def stack(arrays: Sequence[Array], names: Sequence[str]) -> Tensor:
    """Stack images `(C, H, W)` to uint8 `(N, C, H, W)`; grayscale images among color images become color images.

    Raises InputError that names the first image of another size.
    """
    if not arrays:
        raise ValueError("no images to stack")
    channels = max(array.shape[0] for array in arrays)
    height, width = arrays[0].shape[1:]
    out = np.empty((len(arrays), channels, height, width), dtype=np.uint8)
    for position, (array, name) in enumerate(zip(arrays, names, strict=True)):
        if array.shape[1:] != (height, width):
            problem = f"is {array.shape[1]}x{array.shape[2]} pixels, the images before it {height}x{width}"
            raise InputError(problem, where=name, remedy="set `size:` to scale all images to one size")
        out[position] = array
    return torch.from_numpy(out)


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    scale = size / min(width, height)
    scaled = image.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))
