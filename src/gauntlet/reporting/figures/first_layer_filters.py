"""Weights of every variant's first layer, as images.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import (
    as_gray,
    draw_tiles,
    in_rows,
    inspected_variants,
    panel_grid,
    tile_width_in,
    write_instead,
)
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain

_FILTERS_PER_ROW = 8


@FIGURES.register(
    "first_layer_filters",
    reads=("inspections",),
    title="Filters of the first layer",
    caption="The weights of up to 32 units of the first layer, of the first seed: 0 is mid gray, the variant's largest "
    "absolute weight is black or white. With squared inputs, the weights of the linear part.",
)
def first_layer_filters(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 8) -> Figure:
    """Draw one panel per variant, with eight filters per row."""
    inspected = inspected_variants(inputs, "filter", most_variants=most_variants)
    grids = {
        variant: in_rows(as_gray([array.values for array in filters]), _FILTERS_PER_ROW)
        for variant, filters in inspected.arrays.items()
    }
    _, columns = panel_grid(len(grids))
    wide = columns > 1
    # Layers differ in width, so each row of panels is as high as its highest.
    heights = [max(1, *map(len, row)) for row in in_rows(list(grids.values()), columns)] or [1]
    tile_in = tile_width_in(0.97 * style.one_column_in / style.scale, _FILTERS_PER_ROW)
    figure, panels = style.figure(
        len(heights),
        columns,
        height_in=0.1 + sum(0.3 + height * tile_in for height in heights),
        wide=wide,
        height_ratios=heights,
    )
    for (variant, rows), axes in zip(grids.items(), panels.flat, strict=False):
        draw_tiles(axes, rows, _FILTERS_PER_ROW)
        if not rows:
            write_instead(axes, "no weights that are images", size_pt=style.font_pt)
        axes.set_title(plain(inputs.title(variant)), loc="left")
    hide_unused(list(panels.flat)[len(grids) :])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure
