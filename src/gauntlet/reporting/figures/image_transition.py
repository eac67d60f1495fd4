"""Class probabilities of every variant on the line between two images of different classes.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import draw_tiles, inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_label
from gauntlet.reporting.figures.style import Style, hide_unused, line_style, note_below, plain
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.robustness.inspection.arrays import InspectedArray

_COLUMNS = 4
_NAME_IN = 0.8
_LEAST_NAMED = 0.2
"""The probability from which on a class is named."""
_MOST_UNNAMED = 20
_NAME_HEIGHT = 0.09
"""Height of a name in units of probability."""
_TOP = 1.18


class _Span(NamedTuple):
    """Place of a name: positions on the line, and the probability at its lower edge."""

    left: float
    right: float
    bottom: float


@FIGURES.register(
    "image_transition",
    reads=("inspections",),
    title="From one image to another",
    caption="The probability of every class along the straight line between the first two test images of different "
    "classes that the variant classifies correctly, and images on that line; of the first seed. Classes that reach 0.2 "
    "are named. Of many other classes the 20 likeliest are drawn. Sigmoid outputs can give every class a low "
    "probability.",
)
def image_transition(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 12) -> Figure:
    """Draw one panel per variant, with the images above it."""
    inspected = inspected_variants(inputs, "transition", "step", most_variants=most_variants)
    count = len(inspected.arrays)
    columns = min(_COLUMNS, max(1, count))
    wide = columns > 1
    rows = -(-count // columns) or 1
    width_in = (style.two_columns_in if wide else style.one_column_in) / style.scale / columns
    images_in, panel_in = 0.85 * width_in / 5, min(1.4, 0.8 * width_in)
    figure, panels = style.figure(
        2 * rows,
        columns,
        height_in=0.3 + rows * (0.55 + images_in + panel_in),
        wide=wide,
        height_ratios=[images_in, panel_in] * rows,
    )
    image_panels, curve_panels = list(panels[0::2].flat), list(panels[1::2].flat)
    for number, (variant, arrays) in enumerate(inspected.arrays.items()):
        above, below = image_panels[number], curve_panels[number]
        steps = [array for array in arrays if array.kind == "step"]
        above.set_title(plain(inputs.title(variant)), loc="left")
        if not steps:
            above.set_axis_off()
            write_instead(below, "no images of two classes\nare classified correctly", size_pt=style.font_pt)
            continue
        draw_tiles(above, [[step.values for step in steps]], len(steps))
        above.set_anchor("C")
        ends = [step.label for step in steps if step.label is not None]
        transition = next(array for array in arrays if array.kind == "transition")
        _draw(below, transition, ends, inputs, style, 0.85 * width_in)
        if number % columns == 0:
            below.set_ylabel("Probability")
        else:
            below.set_yticks(below.get_yticks(), [""] * len(below.get_yticks()))
    hide_unused([*image_panels[count:], *curve_panels[count:]])
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=wide)
    return figure


def _draw(
    axes: Axes, transition: InspectedArray, ends: Sequence[int], inputs: FigureInputs, style: Style, width_in: float
) -> None:
    """Draw the curves of the classes and name some; `width_in` is the width of the axes."""
    share = np.linspace(0, 1, transition.values.shape[1])
    peaks = transition.values.max(1)
    middle = [label for label in range(len(peaks)) if label not in ends]
    # The classes of the two ends come first, so that they have the same two colors in every panel.
    named = [*ends, *(label for label in middle if peaks[label] >= _LEAST_NAMED)]
    unnamed = sorted((label for label in middle if label not in named), key=lambda label: -peaks[label])
    for label in unnamed[:_MOST_UNNAMED]:
        axes.plot(share, transition.values[label], color="#bbbbbb", linewidth=0.5 * style.line_pt, zorder=1)
    taken: list[_Span] = []
    for label in named:
        line = line_style([*map(str, named)], str(label)) | {"marker": ""}
        axes.plot(share, transition.values[label], **line)
        peak = int(transition.values[label].argmax())
        name = class_label(inputs, label, width_in=_NAME_IN * style.scale, size_pt=style.small_pt)
        side: Literal["left", "right", "center"] = (
            "left" if share[peak] < 0.1 else "right" if share[peak] > 0.9 else "center"
        )
        width = text_width_in(name, style.small_pt) / style.scale / width_in
        left = float(share[peak]) - {"left": 0.0, "center": width / 2, "right": width}[side]
        taken.append(_free_span(left, left + width, float(peaks[label]), taken))
        axes.annotate(
            name,
            (share[peak], taken[-1].bottom),
            xytext=(0, 1.5),
            textcoords="offset points",
            ha=side,
            va="bottom",
            size=style.small_pt,
            color=line["color"],
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, _TOP)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_xlabel("Position on the line")


def _free_span(left: float, right: float, bottom: float, taken: Sequence[_Span]) -> _Span:
    """Return the span of a name at `bottom`, or at the least height above where it overlaps none of those in `taken`.

    If there is no room above, the name is put below.
    """
    heights = sorted(span.bottom for span in taken if span.left < right and left < span.right)
    free = bottom
    for height in heights:
        if abs(height - free) < _NAME_HEIGHT:
            free = height + _NAME_HEIGHT
    if free > _TOP - _NAME_HEIGHT:
        free = bottom
        for height in reversed(heights):
            if abs(height - free) < _NAME_HEIGHT:
                free = height - _NAME_HEIGHT
    return _Span(left, right, free)
