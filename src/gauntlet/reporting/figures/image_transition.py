"""What every variant makes of the way from one image to another of a different class (source C's figure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import arrays_of, draw_tiles, say_none
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, line_style, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_COLUMNS = 4
_TOLD = 0.2
"""The probability from which on a class is named."""


@FIGURES.register(
    "image_transition",
    reads=("inspections",),
    title="From one image to another",
    caption="The probability of every class along the straight line between the first two test images of different "
    "classes that the variant classifies correctly, and images of the way; of the first seed. Classes that reach 0.2 "
    "are named. Sigmoid outputs may hold all classes improbable.",
)
def image_transition(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 12) -> Figure:
    """Draw one panel per variant, the images above it."""
    shown = arrays_of(inputs, "transition", "step", most_variants=most_variants)
    columns = min(_COLUMNS, max(1, len(shown.of)))
    wide = columns > 1
    rows = -(-len(shown.of) // columns) or 1
    width = (style.two_columns_in if wide else style.one_column_in) / style.scale / columns
    strip, panel = 0.85 * width / 5, min(1.4, 0.8 * width)
    figure, panels = style.figure(
        2 * rows, columns, height_in=0.3 + rows * (0.55 + strip + panel), wide=wide, height_ratios=[strip, panel] * rows
    )
    strips, curves = panels[0::2].flat, panels[1::2].flat
    for number, ((variant, found), above, below) in enumerate(zip(shown.of.items(), strips, curves, strict=False)):
        steps = [one for one in found if one.kind == "step"]
        above.set_title(plain(inputs.title(variant)), loc="left")
        if not steps:
            above.set_axis_off()
            say_none(below, "no images of two classes\nare classified correctly", size_pt=style.font_pt)
            continue
        draw_tiles(above, [[one.values for one in steps]], len(steps))
        above.set_anchor("C")
        ends = [one.label for one in steps if one.label is not None]
        _draw(below, next(one for one in found if one.kind == "transition"), ends, inputs, style)
        if number % columns == 0:
            below.set_ylabel("Probability")
        else:
            below.tick_params(labelleft=False)
    hide_unused([*list(panels[0::2].flat)[len(shown.of) :], *list(panels[1::2].flat)[len(shown.of) :]])
    if shown.note:
        note_below(figure, [shown.note], style, wide=wide)
    return figure


def _draw(axes: Axes, one: InspectedArray, ends: Sequence[int], inputs: FigureInputs, style: Style) -> None:
    share = np.linspace(0, 1, one.values.shape[1])
    told = [label for label, values in enumerate(one.values) if label in ends or values.max() >= _TOLD]
    # The two ends come first, so that they look alike whatever classes they are.
    order = [str(label) for label in (*ends, *(label for label in range(len(one.values)) if label not in ends))]
    for label, values in enumerate(one.values):
        if label not in told:
            axes.plot(share, values, color="#bbbbbb", linewidth=0.5 * style.line_pt, zorder=1)
            continue
        look = line_style(order, str(label)) | {"marker": ""}
        axes.plot(share, values, **look)
        place = int(values.argmax())
        side = "left" if share[place] < 0.1 else "right" if share[place] > 0.9 else "center"
        axes.annotate(
            plain(inputs.class_name(label)),
            (share[place], values[place]),
            xytext=(0, 1.5),
            textcoords="offset points",
            ha=side,
            va="bottom",
            size=style.small_pt,
            color=look["color"],
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.18)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_xlabel("Share of the way")
