"""Losses and accuracies of every variant during training.

Figure of: FastEstimator apphub, Adversarial Robustness with Error Correcting Codes (and Hinge Loss).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.blocks import panel_blocks, variant_legend
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, plain

_COLUMNS = ("validation_loss", "validation_accuracy", "robust_validation_accuracy", "kr")

Series = dict[str, list[NDArray[np.float64]]]


@FIGURES.register(
    "training_curves",
    reads=("histories",),
    needs=("trainings",),
    lines=True,
    faceted=True,
    title="Training",
    caption="Validation loss (one panel per loss), validation accuracy, robust validation accuracy (one panel per "
    "attack) and the Kantorovich-Rubinstein term of losses that have one, after every epoch: mean over seeds and their "
    "range; pale after a seed has stopped. A cross at the foot: the training of a seed collapsed and was restored.",
)
def training_curves(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw validation loss and accuracy, robust validation accuracy and the KR term, if they exist, by epoch.

    Each loss has its own panel, and so has robust accuracy under each attack. Seeds stop at different epochs: after
    the first stop, the mean over the remaining seeds is pale. Collapsed epochs have a cross at the foot of the panel of
    validation accuracy.
    """
    series = {column: _series(inputs, column) for column in _COLUMNS}
    panels: list[tuple[str, str, Sequence[str]]] = [
        (f"Validation loss: {loss}" if loss else "Validation loss", "validation_loss", variants)
        for loss, variants in inputs.variants_by_loss().items()
    ]
    panels.append(("Validation accuracy (%)", "validation_accuracy", inputs.variants))
    for adversary, measured in inputs.variants_by_adversary().items():
        if not series["robust_validation_accuracy"].keys().isdisjoint(measured):
            title = f"Accuracy under {adversary} (%)" if adversary else "Robust validation accuracy (%)"
            panels.append((title, "robust_validation_accuracy", measured))
    if series["kr"]:
        panels.append(("KR term", "kr", inputs.variants))
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, blocks = panel_blocks(
        inputs,
        len(panels),
        columns,
        style=style,
        height_in=0.25 + 1.9 * rows,
        legend=inputs.titles_of(),
        wide=True,
        sharex=True,
    )
    width_in = style.two_columns_in / (1 if inputs.facets else columns)
    letters = int(width_in * 72 / (style.letter_em * style.font_pt))
    handles: dict[str, Any] = {}
    for number, (block, (title, column, variants)) in enumerate(zip(blocks, panels, strict=True)):
        scale = 100 if column.endswith("accuracy") else 1
        for variant in (name for name in inputs.variants if name in variants):
            if runs := series[column].get(variant):
                for axes in block.of(variant):
                    handles[variant] = _draw(axes, [scale * run for run in runs], inputs.look(variant))
        if column == "validation_accuracy":
            for variant, epochs in _collapses(inputs).items():
                color = inputs.look(variant)["color"]
                for axes in block.of(variant):
                    axes.plot(epochs, [0.03] * len(epochs), "x", color=color, transform=axes.get_xaxis_transform())
        for axes in block.axes:
            axes.set_title(plain(textwrap.fill(title, letters)), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.tick_params(labelbottom=True)
            if inputs.facets or number >= len(panels) - columns:
                axes.set_xlabel("Epoch")
        block.label_facets()
    labeled = {inputs.title(name): handles[name] for name in inputs.variants if name in handles}
    variant_legend(figure, inputs, labeled, style, wide=True)
    return figure


def _series(inputs: FigureInputs, column: str) -> Series:
    """Read one column of every history: per variant, one array per seed; histories without values are left out."""
    series: Series = {}
    for history in inputs.histories:
        values = np.asarray(read_table(history.path)[column].to_numpy(), dtype=np.float64)
        if np.isfinite(values).any():
            series.setdefault(history.variant, []).append(values)
    return series


def _collapses(inputs: FigureInputs) -> dict[str, list[int]]:
    """Return, by variant, the epochs in which the training of any seed collapsed."""
    collapses: dict[str, set[int]] = {}
    for history in inputs.histories:
        table = read_table(history.path)
        if "collapsed" in table.column_names:  # histories of older releases have none
            rows = zip(table["epoch"].to_pylist(), table["collapsed"].to_pylist(), strict=True)
            collapses.setdefault(history.variant, set()).update(epoch for epoch, collapsed in rows if collapsed)
    return {variant: sorted(epochs) for variant, epochs in collapses.items() if epochs}


def _draw(axes: Axes, runs: list[NDArray[np.float64]], line: dict[str, Any]) -> Any:
    length, common = max(map(len, runs)), min(map(len, runs))
    table = np.full((len(runs), length), np.nan)
    for number, run in enumerate(runs):
        table[number, : len(run)] = run
    # A run has gaps where its loss was not finite.
    table = np.ma.masked_invalid(table)
    epochs, mean = np.arange(1, length + 1), table.mean(0).filled(np.nan)
    low, high = (edge[:common].filled(np.nan) for edge in (table.min(0), table.max(0)))
    axes.fill_between(epochs[:common], low, high, color=line["color"], alpha=0.15, linewidth=0)
    if common < length:
        start = max(common - 1, 0)
        axes.plot(epochs[start:], mean[start:], **line | {"marker": ""}, linewidth=0.8, alpha=0.5)
    # Markers identify lines, not epochs, so a few are enough.
    every = max(1, length // 6)
    return axes.plot(epochs[:common], mean[:common], **line, markevery=every)[0]
