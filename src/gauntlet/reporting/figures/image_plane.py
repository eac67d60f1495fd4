"""Activation of a unit, and the predicted class, on the plane through three images.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import draw_tiles, inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_labels
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.robustness.inspection.arrays import InspectedArray

_PAIRS = 2
_LEVELS = 6
_SHADES = 9
_LEAST_NAMED = 0.03
_COVER = 0.1
"""Squared distance from the middle of a region that a name moves in order to be on its region."""
_NAME_IN = 0.5
_SHORT_IN = 0.25
"""Length in inches that the name of a region is cut to where it would cover another one."""
_PANEL_IN = 1.1
_BOX_MARGIN = 0.03
_BOX = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}

_NameBox = tuple[float, float, float, float]


@FIGURES.register(
    "image_plane",
    reads=("inspections",),
    title="The plane through three images",
    caption="Images x, y and z, the first of three classes that the variant classifies correctly, and the plane that "
    "they span: to the right from x to y, upwards from x to z; above the dashed line, pixels can be outside [0, "
    "1]. Left: the activation of the input of the last layers that prefers x most, from its lowest value "
    "(white) to its highest (black). Right: the predicted class. A distributed representation changes smoothly, "
    "a local one has small regions of high activation. Of the first seed.",
)
def image_plane(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 8) -> Figure:
    """Draw three images, the activation and the decision of each variant, two variants per row."""
    inspected = inspected_variants(inputs, "plane", "decision", "corner", most_variants=most_variants)
    count = len(inspected.arrays)
    pairs = min(_PAIRS, max(1, count))
    wide = pairs > 1
    rows = -(-count // pairs) or 1
    figure, panels = style.figure(
        rows, 3 * pairs, height_in=0.25 + 1.62 * rows, wide=wide, width_ratios=[0.42, 1, 1] * pairs
    )
    cells = [panels[row, 3 * pair : 3 * pair + 3] for row in range(rows) for pair in range(pairs)]
    for (variant, arrays), (images, activation, decision) in zip(inspected.arrays.items(), cells, strict=False):
        by_kind = {kind: [array for array in arrays if array.kind == kind] for kind in ("plane", "decision", "corner")}
        activation.set_title(plain(inputs.title(variant)), loc="left")
        if not by_kind["plane"]:
            hide_unused([images, decision])
            write_instead(activation, "fewer than three images\nare classified correctly", size_pt=style.font_pt)
            continue
        corners = by_kind["corner"]
        draw_tiles(images, [[corners[number].values] for number in (2, 1, 0)], 1)
        images.set_yticks([0, 1, 2], ["z", "y", "x"])
        _draw_activation(activation, by_kind["plane"][0], style)
        _draw_decision(decision, by_kind["decision"][0], [array.label or 0 for array in corners], inputs, style)
    for images, activation, decision in cells[count:]:
        hide_unused([images, activation, decision])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _draw_activation(axes: Axes, plane: InspectedArray, style: Style) -> None:
    values = plane.values
    low, high = float(values.min()), float(values.max())
    axes.imshow(values, cmap="Greys", vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest", **_grid(values))
    if high > low:
        share = np.linspace(0, 1, len(values))
        levels = np.linspace(low, high, _LEVELS + 2)[1:-1]
        axes.contour(
            share, share, values, levels=levels, colors="#0072B2", linewidths=0.4 * style.line_pt, linestyles="solid"
        )
    _frame(axes, style)


def _draw_decision(
    axes: Axes, decision: InspectedArray, corners: Sequence[int], inputs: FigureInputs, style: Style
) -> None:
    classes = decision.values.round().astype(int)
    order = list(dict.fromkeys([*corners, *np.unique(classes).tolist()]))
    shades = np.vectorize({label: number % _SHADES for number, label in enumerate(order)}.get)(classes)
    axes.imshow(shades, cmap="Pastel1", vmin=0, vmax=_SHADES - 1, interpolation="nearest", **_grid(classes))
    regions = {label: np.argwhere(classes == label) / (len(classes) - 1) for label in order}
    whole, short = (
        dict(zip(order, class_labels(inputs, order, width_in=width_in, size_pt=style.small_pt), strict=True))
        for width_in in (_NAME_IN, _SHORT_IN)
    )
    taken: list[_NameBox] = []
    # Small regions have the fewest places for their names.
    for label in sorted(order, key=lambda label: len(regions[label])):
        if len(regions[label]) < _LEAST_NAMED * classes.size:
            continue
        for text in dict.fromkeys(names[label] for names in (whole, short)):
            if place := _free_place(regions[label], _name_size(text, style), taken):
                axes.text(*place[:2], text, size=style.small_pt, ha="center", va="center", clip_on=True, bbox=_BOX)
                taken.append(place)
                break
    _draw_borders(axes, classes, style)
    _frame(axes, style)


def _name_size(name: str, style: Style) -> tuple[float, float]:
    """Return width and height of a name with its box, as shares of the panel, at most 1."""
    inches = text_width_in(name, style.small_pt), 1.2 * style.small_pt / 72
    width, height = (min(1.0, size / style.scale / _PANEL_IN + _BOX_MARGIN) for size in inches)
    return width, height


def _free_place(region: NDArray[np.float64], size: tuple[float, float], taken: Sequence[_NameBox]) -> _NameBox | None:
    """Return the box of a name (x, y, width, height) around a point of its region, apart from the boxes of others.

    The point is near the middle of the region, which may be outside of it, and its box is on the region as far as
    possible. Names at the edge are moved inwards, where they are whole. None if there is no such point.
    """
    width, height = size
    apart = np.abs(region[:, None] - region[None])
    covered = ((apart[..., 0] <= height / 2) & (apart[..., 1] <= width / 2)).sum(1)
    badness = ((region - region.mean(0)) ** 2).sum(1) - _COVER * covered / covered.max()
    for row, column in region[np.argsort(badness, kind="stable")]:
        x = float(np.clip(column, width / 2, 1 - width / 2))
        y = float(np.clip(row, height / 2, 1 - height / 2))
        if all(
            abs(x - other_x) >= (width + other_width) / 2 or abs(y - other_y) >= (height + other_height) / 2
            for other_x, other_y, other_width, other_height in taken
        ):
            return x, y, width, height
    return None


def _draw_borders(axes: Axes, classes: NDArray[np.int64], style: Style) -> None:
    """Draw lines between neighboring points of different classes, so that regions differ in gray as well."""
    step = 1 / (len(classes) - 1)
    upright = [
        [((column + 0.5) * step, (row - 0.5) * step), ((column + 0.5) * step, (row + 0.5) * step)]
        for row, column in np.argwhere(classes[:, 1:] != classes[:, :-1])
    ]
    level = [
        [((column - 0.5) * step, (row + 0.5) * step), ((column + 0.5) * step, (row + 0.5) * step)]
        for row, column in np.argwhere(classes[1:] != classes[:-1])
    ]
    axes.add_collection(LineCollection([*upright, *level], colors="#222222", linewidths=0.5 * style.line_pt))


def _grid(values: NDArray[Any]) -> dict[str, Any]:
    """Return the arguments that put the first and last points of a map at 0 and 1."""
    half = 0.5 / (len(values) - 1)
    return {"origin": "lower", "extent": (-half, 1 + half, -half, 1 + half)}


def _frame(axes: Axes, style: Style) -> None:
    axes.plot([0, 1], [1, 0], color="#444444", linestyle=(0, (3, 2)), linewidth=0.5 * style.line_pt)
    axes.grid(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xticks([0, 1], ["x", "y"])
    axes.set_yticks([0, 1], ["x", "z"])
    axes.spines[:].set_visible(True)
