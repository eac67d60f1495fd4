"""Triples of original, adversarial image and signed difference, three per row, in one block of rows per variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.reporting.figures.example_files import Example
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import class_labels, variant_label
from gauntlet.reporting.figures.style import Style, norm_label
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.reporting.formatting import short_number
from gauntlet.reporting.pictures import change_picture, channels_note, picture

PER_ROW = 3
DIFFERENCE = "each triple: original, adversarial, difference (blue darker, red brighter; own scale)"

_MOST_IN = 9.4
_LABEL_IN = 0.25
_IMAGE_IN = 0.7
_GAP_IN = 0.04
_TRIPLE_IN = 2.27
_TITLE_IN = _TRIPLE_IN - 0.08
_ROW_IN = 0.92
_LINE_IN = 0.12
_MARGIN_IN = 0.16


def rows_on_a_page() -> int:
    """Return how many rows of triples with titles of two lines fit on a page."""
    return int((_MOST_IN - _MARGIN_IN - 3 * _LINE_IN) / (_ROW_IN + _LINE_IN))


def draw_triples(
    blocks: Mapping[str, Sequence[Example]], inputs: FigureInputs, *, style: Style, notes: Sequence[str]
) -> Figure:
    """Draw a block per variant, in inches from the top left. Titles take two lines if one of them is too long."""
    blocks = {variant: examples for variant, examples in blocks.items() if examples}
    shown = [example for examples in blocks.values() for example in examples]
    notes = [*notes, *{channels_note(len(example.original)): None for example in shown}]
    notes = [note for note in notes if note] if shown else []
    titles = {id(example): _title(example, inputs, style) for example in shown}
    too_long = any(
        text_width_in(", ".join(parts), style.small_pt) > _TITLE_IN * style.scale for parts in titles.values()
    )
    row_in = _ROW_IN + (_LINE_IN if too_long else 0.0)
    margin_in = _MARGIN_IN + _LINE_IN * max(1, len(notes))
    rows = {variant: -(-len(examples) // PER_ROW) for variant, examples in blocks.items()}
    total = max(1, sum(rows.values()))
    figure = Figure(figsize=(style.two_columns_in, style.scale * (margin_in + total * row_in)))
    top = 0
    for variant, row_count in rows.items():
        for number, example in enumerate(blocks[variant]):
            row, triple = top + number // PER_ROW, number % PER_ROW
            panels = [_panel(figure, (row + 1) * row_in, triple, column, style) for column in range(3)]
            _draw(panels, example)
            separator = "\n" if too_long else ", "
            panels[0].set_title(separator.join(titles[id(example)]), fontsize=style.small_pt, loc="left", pad=2)
        middle = margin_in + total * row_in - row_in * (top + row_count / 2) - (row_in - _IMAGE_IN) / 2
        length_in = style.scale * (row_in * (row_count - 1) + _IMAGE_IN)
        figure.text(
            *_fraction(figure, 0.11, middle, style),
            variant_label(inputs, variant, width_in=length_in, size_pt=style.font_pt), rotation=90,
            ha="center", va="center", weight="bold",
        )  # fmt: skip
        top += row_count
    if notes:
        where = _fraction(figure, 0.035, 0.06, style)
        figure.text(*where, "\n".join(notes), size=style.small_pt, color="#444444", linespacing=1.2)
    return figure


def _title(example: Example, inputs: FigureInputs, style: Style) -> tuple[str, str]:
    """Return the classes, and the distance with the certified radius."""
    each_in = 0.44 * _TITLE_IN * style.scale
    pair = (example.label, example.prediction)
    names = class_labels(inputs, pair, width_in=each_in, size_pt=style.small_pt)
    certified = f"  (cert. {_rounded_down(example.radius)})" if example.radius is not None else ""
    return " → ".join(names), f"{norm_label(example.norm)} {short_number(example.distance)}{certified}"


def _fraction(figure: Figure, x_in: float, y_in: float, style: Style) -> tuple[float, float]:
    """Convert inches on paper into fractions of the figure."""
    width, height = figure.get_size_inches() / style.scale
    return x_in / width, y_in / height


def _panel(figure: Figure, bottom_in: float, triple: int, column: int, style: Style) -> Axes:
    """Add the axes of one image; `bottom_in` is the distance of its lower edge from the top."""
    width, height = figure.get_size_inches() / style.scale
    left = _LABEL_IN + triple * _TRIPLE_IN + column * (_IMAGE_IN + _GAP_IN)
    axes = figure.add_axes((left / width, (height - bottom_in) / height, _IMAGE_IN / width, _IMAGE_IN / height))
    axes.set_axis_off()
    return axes


def _draw(panels: Sequence[Axes], example: Example) -> None:
    difference = change_picture(example.adversarial - example.original)
    scale = float(np.nanmax(np.abs(difference))) or 1.0
    for axes, image in zip(panels[:2], (example.original, example.adversarial), strict=True):
        axes.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panels[2].imshow(difference, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")


def _rounded_down(radius: float) -> str:
    """Return a certified radius with three decimals; a certificate may shrink in print, but not grow."""
    return f"{np.floor(radius * 1000) / 1000:.3f}"
