"""Negative examples, images of no class, as training made them (source C's figure)."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import arrays_of, draw_tiles, tile_in
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_ACROSS = 4


@FIGURES.register(
    "negative_examples",
    reads=("inspections",),
    needs=("negatives",),
    title="Negative examples",
    caption="The first negative example, an image whose target is no class, of each of the first four training steps "
    "that make any, after augmentation; of the first seed. Variants that are trained on the same ones share a panel.",
)
def negative_examples(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 16) -> Figure:
    """Draw one panel per set of negatives: four beside each other."""
    shown = arrays_of(inputs, "negative", most_variants=most_variants, holding=True)
    groups: dict[tuple[bytes, ...], tuple[list[InspectedArray], list[str]]] = {}
    for variant, found in shown.of.items():
        groups.setdefault(tuple(one.values.tobytes() for one in found), (found, []))[1].append(variant)
    columns = min(2, max(1, len(groups)))
    wide = columns > 1
    rows = -(-len(groups) // columns) or 1
    letters = int(style.one_column_in * 72 / (style.letter_em * style.font_pt))
    heads = [textwrap.wrap(_head(found[0].name, inputs.titles_of(names)), letters) for found, names in groups.values()]
    tile = tile_in(0.97 * style.one_column_in / style.scale, _ACROSS)
    head_in = 0.06 + style.legend_row_in * max(map(len, heads), default=1)
    # Further apart than the images of a panel.
    apart = {"wspace": 0.08}
    height = 0.05 + rows * (head_in + tile)
    figure, panels = style.figure(rows, columns, height_in=height, wide=wide, gridspec_kw=apart)
    for (found, _), head, axes in zip(groups.values(), heads, panels.flat, strict=False):
        draw_tiles(axes, [[one.values for one in found]], _ACROSS)
        axes.set_title(plain("\n".join(head)), loc="left")
    hide_unused(list(panels.flat)[len(groups) :])
    if shown.note:
        note_below(figure, [shown.note], style, wide=wide)
    return figure


def _head(kind: str, titles: list[str]) -> str:
    """Name the variants, and the kind where their titles do not."""
    named = ", ".join(titles)
    return named if kind in named else f"{named}: {kind}"
