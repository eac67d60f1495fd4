"""Fits of one unit of every kind: two dots in a plane, and the conjunction and disjunction of two inputs.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import NO_LAYER_DESIGNS, inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_LIMIT = 2.0
_DOTS = ((-0.8, -0.8), (0.8, 0.8))
_RADIUS = 0.35
_COLUMNS = 4
_MOST_KINDS = 16


@FIGURES.register(
    "unit_fits",
    reads=("inspections",),
    needs=("layer_designs",),
    title="What one unit can fit",
    caption="First: one unit of every kind of layer, trained to be on in two dots (circles) and off around them: its "
    "probability, white 0 to black 1, the border at 0.5, and the mean accuracy inside and outside of the dots. "
    "Then the activation of two inputs, combined by sum, minimum (and) and maximum (or), between -2 and 2, "
    "white lowest; the line is where it is half of its highest value. Only the minimum is high where both "
    "inputs are, and only there.",
)
def unit_fits(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 24) -> Figure:
    """Draw a panel per kind of layer, and three panels per activation function."""
    inspected = inspected_variants(inputs, "dots", "logic", most_variants=most_variants)
    arrays = [array for found in inspected.arrays.values() for array in found]
    fits = list({array.name: array for array in arrays if array.kind == "dots"}.values())[:_MOST_KINDS]
    logic = {array.values.tobytes(): array for array in arrays if array.kind == "logic"}
    rows_of_fits, rows_of_logic = -(-len(fits) // _COLUMNS), len(logic)
    rows = max(1, rows_of_fits + rows_of_logic)
    figure, panels = style.figure(rows, _COLUMNS, height_in=0.25 + 1.95 * rows)
    hide_unused(list(panels.flat))
    for fit, axes in zip(fits, panels.flat, strict=False):
        _draw_fit(axes, fit, style)
    for array, row in zip(logic.values(), panels[rows_of_fits:], strict=False):
        _draw_logic(row, array, style)
    if not fits:
        write_instead(panels[0][0], NO_LAYER_DESIGNS, size_pt=style.font_pt)
    if inspected.note:
        note_below(figure, [inspected.note], style, wide=True)
    return figure


def _draw_fit(axes: Axes, fit: InspectedArray, style: Style) -> None:
    _draw_map(axes, fit.values, 0.0, 1.0, 0.5, style)
    angle = np.linspace(0, 2 * np.pi, 60)
    for x, y in _DOTS:
        axes.plot(
            x + _RADIUS * np.cos(angle), y + _RADIUS * np.sin(angle), color="#D55E00", linewidth=0.8 * style.line_pt
        )
    name = "\n".join(textwrap.wrap(fit.name, 24))
    axes.set_title(f"{plain(name)}: {100 * (fit.value or 0.0):.0f} %", loc="left", fontsize=style.small_pt)


def _draw_logic(row: Sequence[Axes], array: InspectedArray, style: Style) -> None:
    low, high = float(array.values.min()), float(array.values.max())
    activation = array.name.split(" ")[-1]
    for axes, values, combined in zip(row, array.values, ("a + b", "min(a, b)", "max(a, b)"), strict=False):
        _draw_map(axes, values, low, high, low + (float(values.max()) - low) / 2, style)
        axes.set_title(f"{plain(activation)} of {combined}", loc="left", fontsize=style.small_pt)


def _draw_map(axes: Axes, values: np.ndarray, low: float, high: float, level: float, style: Style) -> None:
    axes.set_axis_on()
    edge = _LIMIT + _LIMIT / (len(values) - 1)  # the first and the last points are at the limits
    extent = (-edge, edge, -edge, edge)
    axes.imshow(values, origin="lower", extent=extent, cmap="Greys", vmin=low, vmax=high, interpolation="nearest")
    coordinates = np.linspace(-_LIMIT, _LIMIT, len(values))
    if values.min() < level < values.max():
        axes.contour(
            coordinates,
            coordinates,
            values,
            levels=[level],
            colors="#0072B2",
            linewidths=0.8 * style.line_pt,
            linestyles="solid",
        )
    axes.grid(False)
    axes.set_xlim(-_LIMIT, _LIMIT)
    axes.set_ylim(-_LIMIT, _LIMIT)
    axes.set_xticks([-2, 0, 2])
    axes.set_yticks([-2, 0, 2])
