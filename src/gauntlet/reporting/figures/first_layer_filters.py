"""The weights of every variant's first layer, as images (source C's figure)."""

from __future__ import annotations

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import arrays_of, as_grey, draw_tiles, in_lines, say_none, tile_in
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain

_ACROSS = 8


@FIGURES.register(
    "first_layer_filters",
    reads=("inspections",),
    title="Filters of the first layer",
    caption="The weights of up to 32 units of the first layer, of the first seed: 0 is mid grey, the variant's largest "
    "weight in size is black or white. With squared inputs, the weights of the linear part.",
)
def first_layer_filters(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 8) -> Figure:
    """Draw one panel per variant, eight filters beside each other."""
    shown = arrays_of(inputs, "filter", most_variants=most_variants)
    lines = {variant: in_lines(as_grey([one.values for one in found]), _ACROSS) for variant, found in shown.of.items()}
    columns = min(2, max(1, len(lines)))
    wide = columns > 1
    # Each row of panels is as high as its highest: layers differ in width.
    heights = [max(1, *map(len, row)) for row in in_lines(list(lines.values()), columns)] or [1]
    tile = tile_in(0.97 * style.one_column_in / style.scale, _ACROSS)
    figure, panels = style.figure(
        len(heights),
        columns,
        height_in=0.1 + sum(0.3 + height * tile for height in heights),
        wide=wide,
        height_ratios=heights,
    )
    for (variant, images), axes in zip(lines.items(), panels.flat, strict=False):
        draw_tiles(axes, images, _ACROSS)
        if not images:
            say_none(axes, "no weights that are images", size_pt=style.font_pt)
        axes.set_title(plain(inputs.title(variant)), loc="left")
    hide_unused(list(panels.flat)[len(lines) :])
    if shown.note:
        note_below(figure, [shown.note], style, wide=wide)
    return figure
