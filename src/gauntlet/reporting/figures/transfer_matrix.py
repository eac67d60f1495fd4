"""Robust accuracy of every variant under attacks computed on the other variants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import (
    WORST_CASE,
    ExperimentDesign,
    headline_budgets,
    list_transfers,
    norm_grids,
    open_evaluations,
)
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.labels import shorten
from gauntlet.reporting.figures.style import Style, hide_unused, norm_label, note_below, plain
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text, percent_text

_DARK = 0.47
_CELL_EM = 4.4
_SOURCES = "Computed on"
_ANGLE = 35
_LONGEST_IN = 2.2
"""Length in inches that titles of variants are cut to."""
_PADS_PT = 26.0
"""Distances above and below a matrix: of title, tick labels, axis label and the edges of the panel."""
_NOTE_PT = 8.0

Row = dict[str, Any]


@dataclass(frozen=True)
class _Matrix:
    """The matrix of one norm and budget, of attacks on all samples or on the first `samples`.

    `rows` maps a source (a variant, or an attack on several variants) to the summary row of each target variant;
    `own` maps a variant to its worst case, the diagonal; it is empty for attacks on some of the samples.
    """

    norm: str
    epsilon: float
    rows: dict[str, dict[str, Row]]
    own: dict[str, Row]
    samples: int | None = None

    def row(self, source: str, target: str) -> Row | None:
        """Return the summary row of a field; None if no such attack was run."""
        return self.own.get(target) if source == target else self.rows[source].get(target)


@FIGURES.register(
    "transfer_matrix",
    reads=("evaluations", "summary"),
    needs=("attacks", "transfers"),
    shows_all=True,
    at_headline=True,
    title="Transfer of attacks between variants",
    caption="Robust accuracy in percent, mean over seeds, of the variant of a column under attacks computed on the "
    "variant of a row; the lowest of several attacks. Framed: the worst case over all attacks on the variant itself. "
    "Dash: no such attack was run.",
)
def transfer_matrix(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one matrix per norm: attacked variants in columns, variants that the attack was computed on in rows.

    Attacks on some of the samples have a matrix of their own.

    The budget is the headline budget of the norm, or the nearest one that transferred attacks were run at.
    """
    rows = read_table(inputs.path("summary"))
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        design = evaluations.design
        budgets = headline_budgets(design, norm_grids(evaluations))
    matrices = _matrices(list_transfers(rows, design).to_pylist(), rows.to_pylist(), design, budgets, inputs)
    most = max((len(matrix.rows) for matrix in matrices), default=1)
    titles = inputs.titles_of()
    cell_in = _CELL_EM * style.small_pt / 72
    label_in = style.letter_em * style.small_pt / 72 * max(map(len, titles))
    needed_in = label_in + 0.3 + cell_in * len(titles)
    wide = needed_in > style.one_column_in or len(matrices) > 1
    columns = max(1, min(len(matrices), int(style.two_columns_in / needed_in))) if wide else 1
    lines = -(-max(1, len(matrices)) // columns)
    fields = ((matrix, source, target) for matrix in matrices for source in matrix.rows for target in inputs.variants)
    drawn = [row for matrix, source, target in fields if (row := matrix.row(source, target))]
    notes = ["framed: the worst case on the variant itself", *footnotes(drawn)]
    # The room of all texts: with less, the vertical axis label of a single row would be cut.
    names = _titles(inputs, inputs.variants, style)
    slanted_in = math.sin(math.radians(_ANGLE)) * max(text_width_in(name, style.small_pt) for name in names)
    texts_in = slanted_in + (2.4 * style.font_pt + 1.2 * style.small_pt + _PADS_PT) / 72
    matrix_in = max(1.1 * text_width_in(_SOURCES, style.font_pt), 0.24 * most * style.scale)
    notes_in = ((1 if wide else len(notes)) * 1.4 * style.small_pt + _NOTE_PT) / 72
    height = (notes_in + lines * (texts_in + matrix_in)) / style.scale
    figure, panels = style.figure(lines, columns, height_in=height, wide=wide)
    for matrix, axes in zip(matrices, panels.flat, strict=False):
        _draw(axes, matrix, inputs, style, size_pt=min(style.font_pt, style.font_pt * style.two_columns_in / needed_in))
    hide_unused(list(panels.flat)[len(matrices) :])
    note_below(figure, notes, style, wide=wide)
    return figure


def _matrices(
    transferred: Sequence[Row],
    summary: Sequence[Row],
    design: ExperimentDesign,
    budgets: dict[str, tuple[float, ...]],
    inputs: FigureInputs,
) -> list[_Matrix]:
    attacks = {attack.name: attack for attack in design.attacks}
    matrices = []
    for norm, samples in dict.fromkeys((row["norm"], attacks[row["attack"]].samples) for row in transferred):
        norm_rows = [row for row in transferred if row["norm"] == norm and attacks[row["attack"]].samples == samples]
        epsilon = min(sorted({row["epsilon"] for row in norm_rows}), key=lambda value: abs(value - budgets[norm][0]))
        # Attacks on one variant share its row; an attack on several variants has its own.
        single = [
            name for name in inputs.variants if any(attacks[row["attack"]].sources == (name,) for row in norm_rows)
        ]
        rows: dict[str, dict[str, Row]] = {name: {} for name in single}
        for row in (row for row in norm_rows if np.isclose(row["epsilon"], epsilon)):
            attack = attacks[row["attack"]]
            sources = attack.sources
            by_target = rows.setdefault(sources[0] if len(sources) == 1 else attack.title or attack.name, {})
            lowest = by_target.get(row["target"])
            if lowest is None or _value(row) < _value(lowest) or np.isnan(_value(lowest)):
                by_target[row["target"]] = row
        own = {
            row["variant"]: row
            for row in summary
            if row["attack"] == f"{WORST_CASE}{norm}" and np.isclose(row["epsilon"], epsilon) and samples is None
        }
        matrices.append(_Matrix(norm, epsilon, rows, own, samples))
    return matrices


def _value(row: Row | None) -> float:
    value = None if row is None else row["robust_accuracy"]
    return np.nan if value is None else float(value)


def _draw(axes: Axes, matrix: _Matrix, inputs: FigureInputs, style: Style, *, size_pt: float) -> None:
    fields = [[matrix.row(source, target) for target in inputs.variants] for source in matrix.rows]
    values = np.array([[_value(row) for row in line] for line in fields])
    axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        row = fields[y][x]
        text = "–" if np.isnan(value) else f"{percent_text(value)}{footnote_marks([row]) if row else ''}"
        color = "white" if value < _DARK else "black"
        axes.text(x, y, text, ha="center", va="center", size=size_pt, color=color)
    for y, source in enumerate(matrix.rows):
        if source in inputs.variants and matrix.own:
            axes.add_patch(_frame((inputs.variants.index(source) - 0.5, y - 0.5)))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    names = _titles(inputs, list(matrix.rows), style)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(
        range(len(inputs.variants)),
        _titles(inputs, inputs.variants, style),
        rotation=_ANGLE,
        ha="right",
        rotation_mode="anchor",
    )
    for boundary in range(1, len(inputs.variants)):
        axes.axvline(boundary - 0.5, color="white", linewidth=1)
    for boundary in range(1, len(names)):
        axes.axhline(boundary - 0.5, color="white", linewidth=1)
    few = f", first {matrix.samples} samples" if matrix.samples else ""
    axes.set_title(f"{norm_label(matrix.norm)}, ε = {budget_text(matrix.epsilon)}{few}", loc="left")
    axes.set_ylabel(_SOURCES)
    axes.set_xlabel("Attacked")


def _titles(inputs: FigureInputs, names: Sequence[str], style: Style) -> list[str]:
    """Return the titles of variants, and the names of attacks on several variants, cut to the same length."""
    titles = [inputs.title(name) if name in inputs.variants else name for name in names]
    return [plain(shorten(title, width_in=_LONGEST_IN * style.scale, size_pt=style.small_pt)) for title in titles]


def _frame(corner: tuple[float, float]) -> Rectangle:
    """Return the frame around a field of the diagonal: black with a white edge, visible on every color."""
    white_edge = [Stroke(linewidth=3, foreground="white"), Normal()]
    return Rectangle(
        corner, 1, 1, fill=False, edgecolor="black", linewidth=1.2, path_effects=white_edge, zorder=3, clip_on=False
    )
