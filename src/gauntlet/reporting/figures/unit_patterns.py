"""What excites units of the first layer, beside their weights, and the scores of the classes (source C's figure)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import arrays_of, as_grey, draw_tiles, tile_in
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_ACROSS = 10
_LABEL_IN = 0.5


@FIGURES.register(
    "unit_patterns",
    reads=("inspections",),
    title="What excites units and classes",
    caption="For units of the first layer their weights (0 is mid grey) and, below, the input that excites the unit; "
    "then images that raise the score of each class. Found from mid grey by 20 steps of gradient ascent with pixels in "
    "[0, 1], at a root mean square distance of at most 0.25 from grey. Of the first seed.",
)
def unit_patterns(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 10) -> Figure:
    """Draw one panel per variant: up to eight units with their weights above what excites them, and ten classes."""
    shown = arrays_of(inputs, "filter", "unit", "class", most_variants=most_variants)
    columns = min(2, max(1, len(shown.of)))
    wide = columns > 1
    rows = -(-len(shown.of) // columns) or 1
    tile = tile_in(0.97 * style.one_column_in / style.scale - _LABEL_IN, _ACROSS)
    names = [inputs.class_name(one.number) for found in shown.of.values() for one in found if one.kind == "class"]
    letters = max(map(len, names), default=1)
    letter_in = style.letter_em * style.small_pt / 72 / style.scale
    upright = letters * letter_in > tile
    height = 0.2 + rows * (0.25 + 3 * tile + (letters * letter_in if upright else 0.15))
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide)
    for (variant, found), axes in zip(shown.of.items(), panels.flat, strict=False):
        _draw(axes, found, inputs, upright=upright)
        axes.set_title(plain(inputs.title(variant)), loc="left")
    hide_unused(list(panels.flat)[len(shown.of) :])
    if shown.note:
        note_below(figure, [shown.note], style, wide=wide)
    return figure


def _draw(axes: Axes, found: Sequence[InspectedArray], inputs: FigureInputs, *, upright: bool) -> None:
    units, classes = ([one for one in found if one.kind == kind] for kind in ("unit", "class"))
    weights = as_grey([one.values for one in found if one.kind == "filter"])[: len(units)]
    lines = {"weights": weights, "unit": [one.values for one in units], "class": [one.values for one in classes]}
    there = {name: images for name, images in lines.items() if images}
    draw_tiles(axes, list(there.values()), _ACROSS)
    axes.set_yticks(range(len(there)), list(there))
    axes.set_xticks(
        range(len(classes)),
        [plain(inputs.class_name(one.number)) for one in classes],
        rotation=90 if upright else 0,
    )
