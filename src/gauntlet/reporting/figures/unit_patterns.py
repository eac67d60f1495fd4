"""Images that excite units of the first layer, below their weights, and images that raise the scores of classes.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import (
    GAP,
    as_gray,
    draw_tiles,
    inspected_variants,
    panel_grid,
    tile_width_in,
)
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_labels, variant_label
from gauntlet.reporting.figures.style import Style, hide_unused, note_below
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.robustness.inspection.arrays import InspectedArray

_IMAGES_PER_ROW = 10
_ROWS = ("weights", "unit", "class")
_NAME_IN = 1.0
_TICK_PAD_PT, _TITLE_PAD_PT, _PANEL_PAD_PT = 3.5, 6.0, 6.0
"""Distances of matplotlib: of names and titles from the images, and of two panels."""
_MARGIN_IN, _NOTE_IN = 0.2, 0.16


@FIGURES.register(
    "unit_patterns",
    reads=("inspections",),
    title="Inputs that excite units and classes",
    caption="Units of the first layer: their weights (0 is mid gray) and, below, the input that excites the unit; then "
    "images that raise the score of each of the first ten classes. Found from mid gray by 20 steps of gradient ascent "
    "with pixels in [0, 1], at a root mean square distance of at most 0.25 from gray. Of the first seed.",
)
def unit_patterns(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 10) -> Figure:
    """Draw one panel per variant: up to eight units with weights and exciting inputs, and up to ten classes."""
    inspected = inspected_variants(inputs, "filter", "unit", "class", most_variants=most_variants)
    rows, columns = panel_grid(len(inspected.arrays))
    wide = columns > 1
    numbers = [array.number for arrays in inspected.arrays.values() for array in arrays if array.kind == "class"]
    labels = class_labels(inputs, numbers, width_in=_NAME_IN * style.scale, size_pt=style.small_pt)
    names = dict(zip(numbers, labels, strict=True))
    panel_in = (style.two_columns_in / columns if wide else style.one_column_in) - _PANEL_PAD_PT / 72
    label_in = max(text_width_in(row, style.small_pt) for row in _ROWS) + _TICK_PAD_PT / 72
    tile_in = tile_width_in(panel_in - label_in, _IMAGES_PER_ROW)
    longest_in = max((text_width_in(name, style.small_pt) for name in names.values()), default=0.1)
    upright = longest_in > 0.9 * tile_in
    # The room of all that a panel holds: with less, names would reach into the panel below.
    text_pt = 1.2 * style.font_pt + _TITLE_PAD_PT + _TICK_PAD_PT + _PANEL_PAD_PT
    names_in = longest_in if upright else 1.2 * style.small_pt / 72
    panel_height_in = ((1 + GAP) * len(_ROWS) - GAP) * tile_in + names_in + text_pt / 72
    height = _MARGIN_IN + (_NOTE_IN if inspected.note else 0.0) + rows * panel_height_in / style.scale
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide)
    for (variant, arrays), axes in zip(inspected.arrays.items(), panels.flat, strict=False):
        _draw(axes, arrays, names, upright=upright)
        title = variant_label(inputs, variant, width_in=panel_in - label_in, size_pt=style.font_pt)
        axes.set_title(title, loc="left")
    hide_unused(list(panels.flat)[len(inspected.arrays) :])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _draw(axes: Axes, arrays: Sequence[InspectedArray], names: Mapping[int, str], *, upright: bool) -> None:
    units, classes = ([array for array in arrays if array.kind == kind] for kind in ("unit", "class"))
    weights = as_gray([array.values for array in arrays if array.kind == "filter"])[: len(units)]
    images = (weights, [array.values for array in units], [array.values for array in classes])
    rows = {name: row for name, row in zip(_ROWS, images, strict=True) if row}
    draw_tiles(axes, list(rows.values()), _IMAGES_PER_ROW)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xticks(
        range(len(classes)),
        [names[array.number] for array in classes],
        rotation=90 if upright else 0,
    )
