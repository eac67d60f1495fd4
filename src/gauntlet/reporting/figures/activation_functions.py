"""The activation functions of every variant, and their derivatives (source C's figure)."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import arrays_of, say_none
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_NAMED = 3
_MARKS = 8


@FIGURES.register(
    "activation_functions",
    reads=("inspections",),
    title="Activation functions",
    caption="The activation functions of the trained networks and their derivatives, of the first seed: each distinct "
    "curve once, in the look of the first variant that has it. Functions that join channels, such as sorting and "
    "maxout, are no curves.",
)
def activation_functions(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 24) -> Figure:
    """Draw the functions in one panel and their derivatives in another."""
    shown = arrays_of(inputs, "activation", most_variants=most_variants)
    curves: dict[bytes, tuple[InspectedArray, list[str]]] = {}
    for variant, found in shown.of.items():
        for one in found:
            curves.setdefault(one.name.encode() + one.values.tobytes(), (one, []))[1].append(variant)
    names = [_label(one.name, inputs.titles_of(having), alone=len(curves) == 1) for one, having in curves.values()]
    wide = len(curves) > 1
    legend_in = style.legend_row_in * legend_rows(names, style, wide=wide)[1]
    figure, panels = style.figure(1, 2, height_in=1.9 + legend_in, wide=wide)
    handles: dict[str, Any] = {}
    for name, (one, having) in zip(names, curves.values(), strict=True):
        look = line_style(inputs.variants, having[0])
        for axes, values in zip(panels.flat, one.values[1:], strict=True):
            every = max(1, len(values) // _MARKS)
            handles[name] = axes.plot(one.values[0], values, **look, markevery=every)[0]
    if curves:
        _frame(panels[0][0], "f(x)")
        _frame(panels[0][1], "f′(x)")
        legend_above(figure, handles, style, wide=wide)
    else:
        for axes in panels.flat:
            say_none(axes, "none", size_pt=style.font_pt)
    without = [plain(inputs.title(variant)) for variant, found in shown.of.items() if not found]
    note_below(
        figure,
        [f"no function of single numbers: {', '.join(without)}" if without else "", shown.note],
        style,
        wide=wide,
    )
    return figure


def _label(name: str, variants: list[str], *, alone: bool) -> str:
    if alone:
        return name
    more = f" and {len(variants) - _NAMED} more" if len(variants) > _NAMED else ""
    return f"{name}: {', '.join(variants[:_NAMED])}{more}"


def _frame(axes: Axes, name: str) -> None:
    axes.set_ylabel(name)
    axes.set_xlabel("x")
    axes.set_xticks([-4, -2, 0, 2, 4])
    axes.margins(x=0.03)
