"""Patches of data that excite units of the first layer most, below the weights of the units.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import (
    as_gray,
    draw_tiles,
    inspected_variants,
    panel_grid,
    tile_width_in,
    write_instead,
)
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_UNITS = 8
_LABEL_IN = 0.62
_PITCH = 1.34


@FIGURES.register(
    "unit_patches",
    reads=("inspections",),
    title="Patches of data that excite units",
    caption="Units of the first layer: their weights (0 is mid gray), the mean of the test patches whose response is "
    "among the highest 1 %, and patterns that occur in these: for each of up to four groups of similar patches "
    "the one in the middle of the group, with the share of the group in percent. Weights are often the average "
    "of a few patterns. Of the first seed.",
)
def unit_patches(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 4) -> Figure:
    """Draw one panel per variant with a column per unit: weights, mean of the top patches, patterns."""
    inspected = inspected_variants(inputs, "filter", "patch", "patch_mean", most_variants=most_variants)
    rows, columns = panel_grid(len(inspected.arrays))
    wide = columns > 1
    tile_in = tile_width_in(0.97 * style.one_column_in / style.scale - _LABEL_IN, _UNITS)
    height = 0.2 + rows * (0.3 + 6 * _PITCH * tile_in * 1.12)
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide)
    for (variant, arrays), axes in zip(inspected.arrays.items(), panels.flat, strict=False):
        axes.set_title(plain(inputs.title(variant)), loc="left")
        if any(array.kind == "patch" for array in arrays):
            _draw(axes, arrays, style)
        else:
            write_instead(axes, "the first layer sees no pixels", size_pt=style.font_pt)
    hide_unused(list(panels.flat)[len(inspected.arrays) :])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _draw(axes: Axes, arrays: Sequence[InspectedArray], style: Style) -> None:
    means = [array for array in arrays if array.kind == "patch_mean"][:_UNITS]
    patches = [[array for array in arrays if array.kind == "patch" and array.number == mean.number] for mean in means]
    weights = as_gray([array.values for array in arrays if array.kind == "filter"])[: len(means)]
    most = max(map(len, patches))
    blank = [[group[rank].values if rank < len(group) else None for group in patches] for rank in range(most)]
    draw_tiles(axes, [weights, [mean.values for mean in means], *blank], _UNITS, pitch=_PITCH)
    for unit, group in enumerate(patches):
        for rank, patch in enumerate(group):
            share = f"{100 * (patch.value or 0.0):.0f}"
            axes.text(unit, (rank + 2) * _PITCH + 0.47, share, size=style.small_pt, ha="center", va="top")
    names = ["weights", "mean of 1 %", *(f"pattern {rank + 1}" for rank in range(most))]
    axes.set_yticks([row * _PITCH for row in range(len(names))], names)
