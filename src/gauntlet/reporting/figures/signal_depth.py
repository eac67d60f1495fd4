"""Scale of the outputs of many layers with random weights: until it explodes or vanishes.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.registry import FIGURES, PositiveInt
from gauntlet.reporting.figures.image_grids import NO_LAYER_DESIGNS, inspected_variants, write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, note_below, plain
from gauntlet.robustness.inspection.arrays import InspectedArray

_LEAST_RANGE = (1e-3, 1e3)


@FIGURES.register(
    "signal_depth",
    reads=("inspections",),
    needs=("layer_designs",),
    title="Scale of outputs over depth",
    caption="Root mean square of the outputs of up to 100 dense layers, 512 wide, without training, for standard "
    "normal inputs. Left: weights of variance 1; a cross marks where float32 overflows, after the number of "
    "layers in the legend. Right: the initial weights of the networks. Each kind of layer once, in the color "
    "of the first variant that has it.",
)
def signal_depth(inputs: FigureInputs, *, style: Style, most_variants: PositiveInt = 24) -> Figure:
    """Draw the scales for weights of variance 1 and for initial weights, each kind of layer once."""
    inspected = inspected_variants(inputs, "depth", most_variants=most_variants)
    kinds: dict[bytes, tuple[InspectedArray, str]] = {}
    for variant, arrays in inspected.arrays.items():
        for array in arrays:
            kinds.setdefault(array.name.encode() + array.values.tobytes(), (array, variant))
    labels = [f"{array.name}: {_lasts(array)}" for array, _ in kinds.values()]
    legend_in = style.legend_row_in * legend_rows(labels, style, wide=True)[1]
    figure, panels = style.figure(1, 2, height_in=1.9 + legend_in)
    handles: dict[str, Any] = {}
    for label, (array, variant) in zip(labels, kinds.values(), strict=True):
        line = line_style(inputs.variants, variant) | {"markevery": 12}
        for axes, scales in zip(panels.flat, array.values, strict=True):
            handles[label] = _draw(axes, scales, line)
    if kinds:
        for axes, title in zip(panels.flat, ("Weights of variance 1", "Initial weights"), strict=True):
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, _LEAST_RANGE[0]), max(high, _LEAST_RANGE[1]))
            axes.set_title(title, loc="left")
            axes.set_xlabel("Layers")
            axes.margins(x=0.03)
        panels[0][0].set_ylabel("Scale of the outputs")
        legend_above(figure, handles, style, wide=True)
    else:
        for axes in panels.flat:
            write_instead(axes, NO_LAYER_DESIGNS, size_pt=style.font_pt)
    without = [plain(inputs.title(variant)) for variant, arrays in inspected.arrays.items() if not arrays]
    note_below(
        figure,
        [f"without unit, folding and activation to choose: {', '.join(without)}" if without else "", inspected.note],
        style,
        wide=True,
    )
    return figure


def _lasts(depth: InspectedArray) -> str:
    """Return after how many layers the outputs overflow or vanish, with weights of variance 1."""
    scales = depth.values[0]
    if depth.value is not None:
        return f"{depth.value:.0f} layers"
    vanished = np.flatnonzero(scales == 0)
    return f"{vanished[0]} layers, then 0" if len(vanished) else f"all {len(scales) - 1}"


def _draw(axes: Axes, scales: np.ndarray, line: dict[str, Any]) -> Any:
    finite = np.isfinite(scales) & (scales > 0)
    layers = np.arange(len(scales))
    (drawn,) = axes.plot(layers[finite], scales[finite], **line)
    if not finite.all() and finite.any():
        end = int(layers[finite][-1])
        axes.plot(end, scales[end], marker="x", color=line["color"], markersize=6, linestyle="none", zorder=4)
    return drawn
