"""Grids of images and weights from the inspection of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import plain
from gauntlet.reporting.pictures import channels_note, picture
from gauntlet.robustness.inspection.arrays import ArrayKind, InspectedArray, read_arrays

GAP = 0.12
"""Gap between two tiles, as a share of a tile's width."""

Array = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class InspectedVariants:
    """The arrays of the variants to draw, by variant; `note` names the variants that are left out.

    It also states how images that are not gray or RGB are shown.
    """

    arrays: Mapping[str, list[InspectedArray]]
    note: str


def inspected_variants(
    inputs: FigureInputs, *kinds: ArrayKind, most_variants: int, skip_empty: bool = False
) -> InspectedVariants:
    """Read the arrays of some kinds, of the first inspected seed of each variant, for the first variants.

    With `skip_empty` variants without such arrays are left out.
    """
    arrays: dict[str, list[InspectedArray]] = {}
    files = {item.variant: item for item in sorted(inputs.inspections, key=lambda item: -item.seed)}
    for variant in (name for name in inputs.variants if name in files):
        of_kinds = read_arrays(files[variant].path, *kinds)
        if of_kinds or not skip_empty:
            arrays[variant] = of_kinds
    drawn = dict(list(arrays.items())[:most_variants])
    missing = [plain(inputs.title(name)) for name in inputs.variants if name not in files]
    notes = (
        f"the first {len(drawn)} of {len(arrays)} variants" if len(drawn) < len(arrays) else "",
        f"not inspected: {', '.join(missing)}" if missing else "",
        *dict.fromkeys(channels_note(len(array.values)) for array in chain(*drawn.values()) if array.values.ndim == 3),
    )
    return InspectedVariants(drawn, "; ".join(filter(None, notes)))


NO_LAYER_DESIGNS = "no unit, folding or activation\nother than the default"
"""Text of a figure that compares designs of layers, drawn by name for an experiment that varies none."""


def panel_grid(count: int) -> tuple[int, int]:
    """Return the rows and columns of so many panels, at least one, with at most two next to each other."""
    columns = min(2, max(1, count))
    return -(-count // columns) or 1, columns


def tile_width_in(width_in: float, columns: int) -> float:
    """Return the width of a tile when so many columns fill a width."""
    return width_in / (columns * (1 + GAP) - GAP)


def draw_tiles(axes: Axes, rows: Sequence[Sequence[Array | None]], columns: int, *, pitch: float = 1.0) -> None:
    """Draw rows of images (C, H, W) in a grid of so many columns, without a frame; see `pictures.picture`.

    Image n of row m has its center at (n, m * pitch); rows go downwards. The longer side of an image is as long as a
    tile. None leaves a tile empty. Values are clipped to [0, 1].
    """
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            if image is None:
                continue
            pixels = picture(image)
            height, width = np.array(pixels.shape[:2]) / max(pixels.shape[:2]) / 2 / (1 + GAP)
            extent = (x - width, x + width, y * pitch + height, y * pitch - height)
            axes.imshow(pixels, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    edge = 0.5 / (1 + GAP)
    axes.set_xlim(-edge, columns - 1 + edge)
    axes.set_ylim((max(1, len(rows)) - 1) * pitch + pitch - 1 + edge, -edge)
    axes.set_aspect("equal", anchor="NW")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])


def as_gray(weights: Sequence[Array]) -> list[Array]:
    """Map weights to gray values: 0 to mid gray, the largest absolute weight of all to black or white."""
    largest = max((float(np.abs(weight).max()) for weight in weights), default=0.0) or 1.0
    return [0.5 + weight / (2 * largest) for weight in weights]


def in_rows(items: Sequence[T], columns: int) -> list[Sequence[T]]:
    """Cut a sequence into rows of so many columns."""
    return [items[start : start + columns] for start in range(0, len(items), columns)]


def write_instead(axes: Axes, text: str, *, size_pt: float) -> None:
    """Write a text into a panel that has nothing to draw, in place of its axes."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=size_pt, color="#444444")
