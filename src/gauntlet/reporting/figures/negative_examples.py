"""Negative examples, images of no class, that training generated.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import draw_tiles, inspected_variants, panel_grid, tile_width_in
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_IMAGES_PER_ROW = 4


@FIGURES.register(
    "negative_examples",
    reads=("inspections",),
    needs=("negatives",),
    title="Negative examples",
    caption="The first negative example, an image whose target is no class, of each of the first four training steps "
    "that have any, after augmentation; of the first seed. Variants that are trained on the same ones share a panel.",
)
def negative_examples(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 16) -> Figure:
    """Draw one panel per set of negative examples, with four images per row."""
    inspected = inspected_variants(inputs, "negative", most_variants=most_variants, skip_empty=True)
    groups: dict[tuple[bytes, ...], tuple[list[InspectedArray], list[str]]] = {}
    for variant, negatives in inspected.arrays.items():
        key = tuple(array.values.tobytes() for array in negatives)
        groups.setdefault(key, (negatives, []))[1].append(variant)
    rows, columns = panel_grid(len(groups))
    wide = columns > 1
    letters = int(style.one_column_in * 72 / (style.letter_em * style.font_pt))
    titles = [
        textwrap.wrap(_title(negatives[0].name, inputs.titles_of(variants)), letters)
        for negatives, variants in groups.values()
    ]
    tile_in = tile_width_in(0.97 * style.one_column_in / style.scale, _IMAGES_PER_ROW)
    title_in = 0.06 + style.legend_row_in * max(map(len, titles), default=1)
    height = 0.05 + rows * (title_in + tile_in)
    # Panels are farther apart than the images of a panel.
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide, gridspec_kw={"wspace": 0.08})
    for (negatives, _), title, axes in zip(groups.values(), titles, panels.flat, strict=False):
        draw_tiles(axes, [[array.values for array in negatives]], _IMAGES_PER_ROW)
        axes.set_title(plain("\n".join(title)), loc="left")
    hide_unused(list(panels.flat)[len(groups) :])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _title(kind: str, variants: list[str]) -> str:
    """Return the names of the variants, followed by the kind of negatives unless they contain it."""
    names = ", ".join(variants)
    return names if kind in names else f"{names}: {kind}"
