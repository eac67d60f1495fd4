"""Images that excite units of the first layer, below their weights, and images that raise the scores of classes.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import as_gray, draw_tiles, inspected_variants, panel_grid, tile_width_in
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_label, text_width_in
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_IMAGES_PER_ROW = 10
_LABEL_IN = 0.5
_NAME_IN = 1.0


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
    tile_in = tile_width_in(0.97 * style.one_column_in / style.scale - _LABEL_IN, _IMAGES_PER_ROW)
    names = {
        array.number: class_label(inputs, array.number, width_in=_NAME_IN * style.scale, size_pt=style.small_pt)
        for arrays in inspected.arrays.values()
        for array in arrays
        if array.kind == "class"
    }
    longest_in = max((text_width_in(name, style.small_pt) for name in names.values()), default=0.1) / style.scale
    upright = longest_in > 0.9 * tile_in
    height = 0.2 + rows * (0.25 + 3 * tile_in + (longest_in if upright else 0.15))
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide)
    for (variant, arrays), axes in zip(inspected.arrays.items(), panels.flat, strict=False):
        _draw(axes, arrays, names, upright=upright)
        axes.set_title(plain(inputs.title(variant)), loc="left")
    hide_unused(list(panels.flat)[len(inspected.arrays) :])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _draw(axes: Axes, arrays: Sequence[InspectedArray], names: Mapping[int, str], *, upright: bool) -> None:
    units, classes = ([array for array in arrays if array.kind == kind] for kind in ("unit", "class"))
    weights = as_gray([array.values for array in arrays if array.kind == "filter"])[: len(units)]
    rows = {
        "weights": weights,
        "unit": [array.values for array in units],
        "class": [array.values for array in classes],
    }
    rows = {name: images for name, images in rows.items() if images}
    draw_tiles(axes, list(rows.values()), _IMAGES_PER_ROW)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xticks(
        range(len(classes)),
        [names[array.number] for array in classes],
        rotation=90 if upright else 0,
    )
