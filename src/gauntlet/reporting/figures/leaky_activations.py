"""Weak activations of every variant: the leaks of its units.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, note_below, plain

WEAK = 0.1


@FIGURES.register(
    "leaky_activations",
    reads=("inspections",),
    lines=True,
    title="Weak activations",
    caption="Left: the share of activations at or below a fraction of the largest activation of their unit, over all "
    "layers with an activation function, on the first test images; at 0, those that are off. Right: the share "
    "that is weak, above 0 but at most a tenth of the largest (the dotted line on the left), by layer. The "
    "legend has both shares, of all layers, in percent. Of the first seed.",
)
def leaky_activations(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 12) -> Figure:
    """Draw cumulative shares in one panel, and the weak share of every layer in another."""
    inspected = inspected_variants(inputs, "activity", most_variants=most_variants)
    drawn = {variant: layers for variant, layers in inspected.arrays.items() if layers}
    labels = {}
    for variant, layers in drawn.items():
        off, weak = (100 * np.mean([getattr(layer, key) for layer in layers]) for key in ("start", "value"))
        labels[variant] = f"{inputs.title(variant)}: off {off:.0f}, weak {weak:.0f}"
    wide = True
    legend_in = style.legend_row_in * legend_rows(list(labels.values()), style, wide=wide)[1]
    figure, panels = style.figure(1, 2, height_in=1.9 + legend_in, wide=wide)
    left, right = panels[0]
    handles: dict[str, Any] = {}
    for variant, layers in drawn.items():
        line = line_style(inputs.variants, variant)
        shares = 100 * np.mean([layer.values for layer in layers], axis=0)
        x = np.linspace(0, 1, len(shares))
        handles[labels[variant]] = left.plot(x, shares, **line, markevery=4)[0]
        right.plot([layer.number + 1 for layer in layers], [100 * (layer.value or 0.0) for layer in layers], **line)
    if drawn:
        left.axvline(WEAK, color="#888888", linestyle=":", linewidth=0.6 * style.line_pt, zorder=1)
        left.set_xlabel("Activation / largest of the unit")
        left.set_ylabel("Activations up to this (%)")
        left.set_ylim(0, 103)
        left.margins(x=0.03)
        right.set_xlabel("Layer")
        right.set_ylabel("Weak activations (%)")
        right.set_ylim(bottom=0)
        right.xaxis.get_major_locator().set_params(integer=True)
        legend_above(figure, handles, style, wide=wide)
    else:
        for axes in panels.flat:
            write_instead(axes, "none", size_pt=style.font_pt)
    without = [plain(inputs.title(variant)) for variant, layers in inspected.arrays.items() if not layers]
    note_below(
        figure,
        [f"no scalar activation function: {', '.join(without)}" if without else "", inspected.note],
        style,
        wide=wide,
    )
    return figure
