"""Pictures of arrays with any number of channels, as one gray or color image: the one place that decides how.

One channel is gray and three are red, green and blue. With any other number each channel is a gray image of its own,
side by side in reading order, with a white gap. A side more than eight times as long as the other is drawn as if it
were eight times as long: the pixels are no squares then.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_ELONGATED = 8
"""Longest side of a picture, relative to its other side."""

_LEAST_SIDE = 16
"""Pixels of the longer side of a channel in a mosaic, so that gaps are thin."""

_GAP = 0.06
"""Gap between two channels, relative to the longer side of a channel."""

Array = NDArray[np.float32]


def picture(image: Array) -> Array:
    """Return an image or weights `(C, H, W)` as gray values `(h, w)` or colors `(h, w, 3)`, clipped to [0, 1]."""
    clipped = np.clip(image, 0, 1)
    return _square_enough(clipped.transpose(1, 2, 0) if len(image) == 3 else _mosaic(clipped, gap=1.0))


def change_picture(change: Array) -> Array:
    """Return a signed change `(C, H, W)` as signed values `(h, w)`, unscaled; gaps of a mosaic are NaN.

    In color images this is the change of the channel that changes most at each pixel: a mean over channels can be zero
    where all of them change.
    """
    if len(change) == 3:
        largest: Array = np.take_along_axis(change, np.abs(change).argmax(0)[None], 0)
        return _square_enough(largest[0])
    return _square_enough(_mosaic(change, gap=math.nan))


def channels_note(channels: int) -> str:
    """Return how an image with so many channels is shown; empty for gray and RGB."""
    return "" if channels in (1, 3) else f"images have {channels} channels, each shown in gray"


def _mosaic(image: Array, *, gap: float) -> Array:
    """Arrange channels `(C, H, W)` in reading order, in the grid that is nearest to a square; one has no gap."""
    channels, height, width = image.shape
    if channels == 1:
        return image.reshape(height, width)
    factor = -(-_LEAST_SIDE // max(height, width))
    image = image.repeat(factor, 1).repeat(factor, 2)
    height, width = image.shape[1:]
    between = max(1, round(_GAP * max(height, width)))
    rows, columns = _grid(channels, height, width)
    full = (rows * (height + between) - between, columns * (width + between) - between)
    canvas = np.full(full, gap, image.dtype)
    for number, channel in enumerate(image):
        top, left = number // columns * (height + between), number % columns * (width + between)
        canvas[top : top + height, left : left + width] = channel
    return canvas


def _grid(channels: int, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of the mosaic whose sides differ least; wide before high, few gaps before many."""

    def elongation(columns: int) -> tuple[float, int]:
        rows = -(-channels // columns)
        return round(abs(math.log(rows * height / (columns * width))), 6), rows * columns

    columns = min(range(channels, 0, -1), key=elongation)
    return -(-channels // columns), columns


def _square_enough(pixels: Array) -> Array:
    """Repeat rows or columns until no side is more than `MOST_ELONGATED` times as long as the other."""
    height, width = pixels.shape[:2]
    pixels = pixels.repeat(-(-width // (MOST_ELONGATED * height)), 0)
    return pixels.repeat(-(-height // (MOST_ELONGATED * width)), 1)
