"""What figures of inspected models share: which arrays there are, and how images stand beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import plain
from gauntlet.robustness.inspection.arrays import ArrayKind, InspectedArray, read_arrays

GAP = 0.12
"""Between two tiles, as a share of a tile's width."""

Array = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """The arrays of the variants that are shown, by variant; `note` says which others were left out."""

    of: Mapping[str, list[InspectedArray]]
    note: str


def arrays_of(inputs: FigureInputs, *kinds: ArrayKind, most_variants: int, holding: bool = False) -> Shown:
    """Read the arrays of some kinds of the first seed of every variant that was inspected, and keep the first variants.

    With `holding` only variants are kept that have any.
    """
    files: dict[str, list[InspectedArray]] = {}
    first = {item.variant: item for item in sorted(inputs.inspections, key=lambda item: -item.seed)}
    for variant in (name for name in inputs.variants if name in first):
        found = read_arrays(first[variant].path, *kinds)
        if found or not holding:
            files[variant] = found
    kept = dict(list(files.items())[:most_variants])
    absent = [plain(inputs.title(name)) for name in inputs.variants if name not in first]
    notes = (
        f"the first {len(kept)} of {len(files)} variants" if len(kept) < len(files) else "",
        f"not inspected: {', '.join(absent)}" if absent else "",
    )
    return Shown(kept, "; ".join(filter(None, notes)))


def tile_in(width_in: float, across: int) -> float:
    """Give the width of one of so many tiles beside each other."""
    return width_in / (across * (1 + GAP) - GAP)


def draw_tiles(axes: Axes, lines: Sequence[Sequence[Array]], across: int) -> None:
    """Draw lines of images (C, H, W), `across` of which fit beside each other, and nothing else.

    The middle of image n of line m is at (n, m), lines go downwards. Of images that are not square the longer side is
    as long as a tile. Values are clipped to [0, 1].
    """
    for height, line in enumerate(lines):
        for place, image in enumerate(line):
            rows, columns = np.array(image.shape[1:]) / max(image.shape[1:]) / 2 / (1 + GAP)
            extent = (place - columns, place + columns, height + rows, height - rows)
            axes.imshow(_pixels(image), extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    edge = 0.5 / (1 + GAP)
    axes.set_xlim(-edge, across - 1 + edge)
    axes.set_ylim(max(1, len(lines)) - 1 + edge, -edge)
    axes.set_aspect("equal", anchor="NW")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])


def as_grey(weights: Sequence[Array]) -> list[Array]:
    """Turn weights into images: 0 is mid grey, the largest of all in size black or white."""
    largest = max((float(np.abs(one).max()) for one in weights), default=0.0) or 1.0
    return [0.5 + one / (2 * largest) for one in weights]


def in_lines(ones: Sequence[T], across: int) -> list[Sequence[T]]:
    """Cut a sequence into lines of so many."""
    return [ones[start : start + across] for start in range(0, len(ones), across)]


def say_none(axes: Axes, text: str, *, size_pt: float) -> None:
    """Say in a panel that there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", size=size_pt, color="#444444")


def _pixels(image: Array) -> Array:
    """Give (H, W) or, of three channels, (H, W, 3); of other numbers of channels their mean."""
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)
    return np.clip(shown, 0, 1)
