"""Decoding of image files, and of images in parquet tables, to uint8 arrays."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from gauntlet.core.errors import InputError

Array = np.ndarray[Any, np.dtype[np.uint8]]

_GRAY_MODES = ("1", "L", "LA")
_TURNED = range(2, 9)
"""EXIF orientations of images that are not upright; 1 is upright, and other values mean nothing."""


def decode(
    encoded: bytes | Path,
    *,
    where: str,
    size: int | None = None,
    upright: bool = False,
    orientations: Counter[int] | None = None,
) -> Array:
    """Decode one image file to uint8 `(C, H, W)`; C is 1 for grayscale images, else 3.

    Transparency is dropped. With `size` the shorter side is scaled to it and the center square is cropped. With
    `upright` the image is turned as its EXIF orientation says; `orientations` counts those of images that are not
    upright. Raises InputError that names `where`.
    """
    try:
        if not (encoded if isinstance(encoded, bytes) else encoded.stat().st_size):
            raise InputError("is empty", where=where, remedy="replace or remove it")
        with warnings.catch_warnings():
            # Pillow warns of large images; beyond twice the size of which it warns, it refuses them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as image:
                _check_one_frame(image, where)
                image.load()  # Pillow turns TIFF files itself here
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
                is_turned = orientation in _TURNED
                if is_turned and orientations is not None:
                    orientations[orientation] += 1
                turned = ImageOps.exif_transpose(image) if upright and is_turned else image
                return to_array(turned, where=where, size=size)
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        problem = f"has more pixels than Pillow reads ({2 * (Image.MAX_IMAGE_PIXELS or 0)})"
        raise InputError(problem, where=where, remedy="make it smaller") from error
    except FileNotFoundError as error:
        raise InputError(
            "the file is missing", where=where, remedy="restore it, or remove it from the table"
        ) from error
    except Exception as error:  # damaged files make Pillow raise errors of many types
        if isinstance(error, OSError) and error.errno is not None:
            problem = f"cannot be read ({error.strerror})"
            raise InputError(problem, where=where, remedy="make the file readable") from error
        raise InputError("is damaged or not an image", where=where, remedy="replace or remove it") from error


def _check_one_frame(image: Image.Image, where: str) -> None:
    """Raise InputError for an animation or several pages; the further pictures in a photo (MPO) are previews."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise InputError(
            f"contains {frames} images", where=where, remedy="store each in a file of its own, or remove it"
        )


def to_array(image: Image.Image, *, where: str, size: int | None = None) -> Array:
    """Convert an opened image to uint8 `(C, H, W)`, as `decode` does."""
    if image.mode.startswith(("I", "F")):
        raise InputError(f"has pixels of mode {image.mode}", where=where, remedy="convert it to 8 bits per channel")
    plain = image.convert("L" if image.mode in _GRAY_MODES else "RGB")
    if size is not None:
        plain = _square(plain, size)
    array = np.asarray(plain, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


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
