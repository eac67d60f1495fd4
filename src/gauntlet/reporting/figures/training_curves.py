"""Losses and accuracies of every variant while it was trained (source A's figure)."""

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
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, hide_unused, legend_above, legend_rows, line_style, plain

_COLUMNS = ("validation_loss", "validation_accuracy", "robust_validation_accuracy", "kr")

Series = dict[str, list[NDArray[np.float64]]]


@FIGURES.register(
    "training_curves",
    reads=("histories",),
    title="Training",
    caption="Validation loss, one panel per kind of loss, validation accuracy, the same under attack, one panel per "
    "attack that training measures it under, and the Kantorovich-Rubinstein term where it is trained, after every "
    "epoch: mean over seeds and their range; pale where some seeds have stopped. A cross at the foot: a seed collapsed "
    "and was taken back.",
)
def training_curves(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw validation loss and accuracy, accuracy under attack and the KR term where they exist, against the epoch.

    Losses of different kinds have panels of their own, and so have accuracies under different attacks. Seeds stop at
    different epochs: from there on the mean of those that still run is drawn pale. Collapsed epochs have a cross at the
    foot of the accuracy's panel.
    """
    series = {column: _series(inputs, column) for column in _COLUMNS}
    panels: list[tuple[str, str, Sequence[str]]] = [
        (f"Validation loss: {loss}" if loss else "Validation loss", "validation_loss", variants)
        for loss, variants in inputs.variants_by_loss().items()
    ]
    panels.append(("Validation accuracy (%)", "validation_accuracy", inputs.variants))
    for opponent, measured in inputs.variants_by_adversary().items():
        if not series["robust_validation_accuracy"].keys().isdisjoint(measured):
            title = f"Accuracy under {opponent} (%)" if opponent else "Robust validation accuracy (%)"
            panels.append((title, "robust_validation_accuracy", measured))
    if series["kr"]:
        panels.append(("KR term", "kr", inputs.variants))
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = -(-len(panels) // columns)
    legend_in = style.legend_row_in * legend_rows(inputs.titles_of(), style, wide=True)[1]
    figure, grid = style.figure(rows, columns, height_in=0.25 + 1.9 * rows + legend_in, sharex=True)
    letters = int(style.two_columns_in / columns * 72 / (style.letter_em * style.font_pt))
    handles: dict[str, Any] = {}
    for axes, (title, column, variants) in zip(grid.flat, panels, strict=False):
        scale = 100 if column.endswith("accuracy") else 1
        for variant in (name for name in inputs.variants if name in variants):
            for runs in [series[column].get(variant)]:
                if runs:
                    handles[variant] = _draw(axes, [scale * run for run in runs], line_style(inputs.variants, variant))
        if column == "validation_accuracy":
            for variant, epochs in _collapses(inputs).items():
                color = line_style(inputs.variants, variant)["color"]
                axes.plot(epochs, [0.03] * len(epochs), "x", color=color, transform=axes.get_xaxis_transform())
        axes.set_title(plain(textwrap.fill(title, letters)), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axes in grid.flat[: len(panels)]:
        axes.tick_params(labelbottom=True)
    for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("Epoch")
    hide_unused(grid.flat[len(panels) :])
    legend_above(
        figure, {inputs.title(name): handles[name] for name in inputs.variants if name in handles}, style, wide=True
    )
    return figure


def _series(inputs: FigureInputs, column: str) -> Series:
    """Read one column of every history, per variant one run per seed; runs without values are left out."""
    series: Series = {}
    for history in inputs.histories:
        values = np.asarray(read_table(history.path)[column].to_numpy(), dtype=np.float64)
        if np.isfinite(values).any():
            series.setdefault(history.variant, []).append(values)
    return series


def _collapses(inputs: FigureInputs) -> dict[str, list[int]]:
    """Give the epochs in which the training of some seed collapsed, by variant."""
    found: dict[str, set[int]] = {}
    for history in inputs.histories:
        table = read_table(history.path)
        if "collapsed" in table.column_names:  # histories of older releases have none
            rows = zip(table["epoch"].to_pylist(), table["collapsed"].to_pylist(), strict=True)
            found.setdefault(history.variant, set()).update(epoch for epoch, collapsed in rows if collapsed)
    return {variant: sorted(epochs) for variant, epochs in found.items() if epochs}


def _draw(axes: Axes, runs: list[NDArray[np.float64]], look: dict[str, Any]) -> Any:
    length, common = max(map(len, runs)), min(map(len, runs))
    table = np.full((len(runs), length), np.nan)
    for number, run in enumerate(runs):
        table[number, : len(run)] = run
    # Before the runs' ends there are holes where a loss was not finite.
    table = np.ma.masked_invalid(table)
    epochs, mean = np.arange(1, length + 1), table.mean(0).filled(np.nan)
    low, high = (edge[:common].filled(np.nan) for edge in (table.min(0), table.max(0)))
    axes.fill_between(epochs[:common], low, high, color=look["color"], alpha=0.15, linewidth=0)
    if common < length:
        start = max(common - 1, 0)
        axes.plot(epochs[start:], mean[start:], **look | {"marker": ""}, linewidth=0.8, alpha=0.5)
    # Markers stand far apart: they tell lines from one another, not epochs.
    every = max(1, length // 6)
    return axes.plot(epochs[:common], mean[:common], **look, markevery=every)[0]
