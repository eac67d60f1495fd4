"""Activation functions of every variant and their derivatives.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import join_titles
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_MOST_NAMES = 3
_MARKERS = 8


@FIGURES.register(
    "activation_functions",
    reads=("inspections",),
    title="Activation functions",
    caption="The activation functions of the trained networks and their derivatives, of the first seed: each distinct "
    "curve once, in the color of the first variant that has it. Functions that join channels, such as sorting and "
    "maxout, are not drawn.",
)
def activation_functions(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 24) -> Figure:
    """Draw the functions in one panel and their derivatives in another."""
    inspected = inspected_variants(inputs, "activation", most_variants=most_variants)
    curves: dict[bytes, tuple[InspectedArray, list[str]]] = {}
    for variant, functions in inspected.arrays.items():
        for function in functions:
            curves.setdefault(function.name.encode() + function.values.tobytes(), (function, []))[1].append(variant)
    labels = [
        _label(function.name, inputs.titles_of(variants), alone=len(curves) == 1)
        for function, variants in curves.values()
    ]
    wide = len(curves) > 1
    legend_in = style.legend_row_in * legend_rows(labels, style, wide=wide)[1]
    figure, panels = style.figure(1, 2, height_in=1.9 + legend_in, wide=wide)
    handles: dict[str, Any] = {}
    for label, (function, variants) in zip(labels, curves.values(), strict=True):
        line = line_style(inputs.variants, variants[0])
        x, *values = function.values
        for axes, y in zip(panels.flat, values, strict=True):
            handles[label] = axes.plot(x, y, **line, markevery=max(1, len(y) // _MARKERS))[0]
    if curves:
        _frame(panels[0][0], "f(x)")
        _frame(panels[0][1], "f′(x)")
        legend_above(figure, handles, style, wide=wide)
    else:
        for axes in panels.flat:
            write_instead(axes, "none", size_pt=style.font_pt)
    without = [plain(inputs.title(variant)) for variant, functions in inspected.arrays.items() if not functions]
    note_below(
        figure,
        [f"no scalar function: {join_titles(without)}" if without else "", inspected.note],
        style,
        wide=wide,
    )
    return figure


def _label(name: str, variants: list[str], *, alone: bool) -> str:
    """Return the function's name, with its variants unless it is the only function."""
    if alone:
        return name
    more = f" and {len(variants) - _MOST_NAMES} more" if len(variants) > _MOST_NAMES else ""
    return f"{name}: {join_titles(variants[:_MOST_NAMES])}{more}"


def _frame(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_xlabel("x")
    axes.set_xticks([-4, -2, 0, 2, 4])
    axes.margins(x=0.03)
