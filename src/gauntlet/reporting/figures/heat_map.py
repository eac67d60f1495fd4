"""Robust accuracy of every variant under every attack at one budget per norm."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.aggregation.definitions import is_worst_case, planned_seeds, prefer_worst_cases
from gauntlet.reporting.aggregation.headline import measured_budget
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below, plain
from gauntlet.reporting.footnotes import clean_note, footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text, clean_marks, percent_text

_GAP = 0.25
_LEAST_SLANTED_IN = 0.45

_MOST_ROWS_IN, _LEAST_ROW_IN = 8.0, 0.115
"""Height of all rows on a page, which many rows share, and the least height of one whose numbers can be read."""

Row = dict[str, Any]


@dataclass(frozen=True)
class _Column:
    """A column of the map: its position, its name, and the summary row of each variant that has one."""

    position: float
    name: str
    rows: dict[str, Row]
    key: str = "robust_accuracy"
    bold: bool = False


@FIGURES.register(
    "heat_map",
    reads=("evaluations", "summary"),
    needs=("attacks",),
    shows_all=True,
    at_headline=True,
    title="Variants against attacks",
    caption="Robust accuracy in percent, mean over seeds, of every variant under every attack at one budget per norm, "
    "after the worst case per sample over all attacks of the norm. Dash: the attack was not run at this budget. Noise "
    "in place of images has no accuracy.",
)
def heat_map(inputs: FigureInputs, *, style: Style, epsilon: float | None = None) -> Figure:
    """Draw one row per variant and one column per attack, grouped by norm, worst case first.

    `epsilon` is the budget for every norm. By default it is, for each norm, the first of the experiment's `headline`;
    else, of the budgets that most attacks have in common, the one at which the worst case is nearest to half of the
    clean accuracy, where variants differ most.
    """
    rows = [row for row in read_table(inputs.path("summary")).to_pylist() if inputs.has_accuracy(row["attack"])]
    variants = [name for name in inputs.variants if any(row["variant"] == name for row in rows)]
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        design = evaluations.design
    first = {norm: budgets[0] for norm, budgets in design.headline.items() if budgets}
    at = {
        norm: measured_budget(
            epsilon or first.get(norm) or common_budget(rows, norm),
            [row["epsilon"] for row in rows if row["norm"] == norm],
        )
        for norm in dict.fromkeys(row["norm"] for row in rows)
    }
    planned = planned_seeds(rows)
    columns, groups = _columns(rows, at, inputs, clean_attacks=design.clean_attacks)
    row_in = max(_LEAST_ROW_IN, min(0.27, _MOST_ROWS_IN / max(1, len(variants))))
    height = 1.3 + row_in * len(variants)
    label_in = style.letter_em * style.small_pt / 72 * max(map(len, inputs.titles_of(variants)), default=0)
    wide = len(columns) > 4 or label_in > 0.3 * style.one_column_in
    figure, panels = style.figure(1, 1, height_in=height, wide=wide)
    # The width of a column; with more than about twenty, numbers shrink to fit.
    width_in = style.two_columns_in if wide else style.one_column_in
    column_in = max(0.03 * width_in, 0.87 * width_in - label_in) / len(columns)
    row_pt = 0.75 * 72 * style.scale * row_in
    size_pt = min(style.font_pt, column_in * 72 / 3.4, row_pt)
    axes: Axes = panels[0][0]
    image = None
    for column in columns:
        values = np.array([[_value(column, variant)] for variant in variants])
        extent = (column.position - 0.5, column.position + 0.5, len(variants) - 0.5, -0.5)
        image = axes.imshow(
            np.ma.masked_invalid(100 * values), extent=extent, cmap="cividis", vmin=0, vmax=100, aspect="auto"
        )
        for row, variant in enumerate(variants):
            _write(axes, column, row, variant, planned, size_pt)
    _frame(axes, columns, groups, inputs.titles_of(variants))
    axes.tick_params(axis="y", labelsize=min(style.small_pt, row_pt))
    _label_columns(axes, columns, style, column_in)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
        bar.set_label("Accuracy (%)")
        bar.outline.set_visible(False)
    if notes := [clean_note(design.clean_samples), *inputs.exclusion_notes(), *footnotes(rows)]:
        note_below(figure, notes, style, wide=wide)
    return figure


def common_budget(rows: list[Row], norm: str) -> float:
    """Return the budget of a norm at which variants are compared by default; 0 if nothing was measured."""
    measured = [row for row in rows if row["norm"] == norm and row["robust_accuracy"] is not None]
    worst = prefer_worst_cases(measured)
    if not worst:
        return 0.0
    half = float(np.mean([row["clean_accuracy"] for row in worst])) / 2
    attacks_at: dict[float, set[str]] = {row["epsilon"]: set() for row in worst}
    for row in measured:
        attacks_at.get(row["epsilon"], set()).add(row["attack"])
    most = max(map(len, attacks_at.values()))
    common = [budget for budget, attacks in attacks_at.items() if len(attacks) == most]
    mean = {
        budget: float(np.mean([row["robust_accuracy"] for row in worst if row["epsilon"] == budget]))
        for budget in common
    }
    return min(common, key=lambda budget: abs(mean[budget] - half))


def _columns(
    rows: list[Row], budgets: dict[str, float], inputs: FigureInputs, *, clean_attacks: Collection[str]
) -> tuple[list[_Column], dict[str, tuple[float, float]]]:
    """Return the columns from left to right, and the beginning and end of each norm's group.

    Clean accuracy is that of a worst case or of `clean_attacks`, which are run on the most samples.
    """
    first = {
        row["variant"]: row for row in reversed(rows) if is_worst_case(row["attack"]) or row["attack"] in clean_attacks
    }
    columns = [_Column(0.0, "clean", first, key="clean_accuracy", bold=True)]
    groups: dict[str, tuple[float, float]] = {}
    position = 1.0 + _GAP
    for norm, budget in budgets.items():
        norm_rows = [row for row in rows if row["norm"] == norm]
        begin = position
        for attack in sorted(
            dict.fromkeys(row["attack"] for row in norm_rows), key=lambda name: not is_worst_case(name)
        ):
            at_budget = {
                row["variant"]: row for row in norm_rows if row["attack"] == attack and row["epsilon"] == budget
            }
            worst = is_worst_case(attack)
            name = "worst case" if worst else inputs.attack_title(attack)
            columns.append(_Column(position, name, at_budget, bold=worst))
            position += 1
        groups[f"{norm_label(norm)}, ε = {budget_text(budget)}"] = begin - 0.5, position - 0.5
        position += _GAP
    return columns, groups


def _value(column: _Column, variant: str) -> float:
    value = column.rows.get(variant, {}).get(column.key)
    return np.nan if value is None else float(value)


def _write(axes: Axes, column: _Column, y: int, variant: str, planned: Mapping[str, int], size_pt: float) -> None:
    value = _value(column, variant)
    row = column.rows.get(variant)
    marks = "" if not row else footnote_marks([row]) if column.key == "robust_accuracy" else clean_marks(row, planned)
    number = percent_text(None if np.isnan(value) else value)
    text = axes.text(column.position, y, number + marks, ha="center", va="center", size=size_pt)
    text.set(color="white" if value < 0.47 else "black", weight="bold" if column.bold else "normal")


def _label_columns(axes: Axes, columns: list[_Column], style: Style, column_in: float) -> None:
    """Write the names of the columns: level if they fit, else slanted, else upright."""
    positions = [column.position for column in columns]
    names = [plain(column.name) for column in columns]
    longest = max(len(word) for name in names for word in name.split())
    if longest * style.letter_em * style.small_pt / 72 <= column_in:
        axes.set_xticks(positions, [name.replace("worst case", "worst\ncase") for name in names])
    elif column_in >= _LEAST_SLANTED_IN:
        axes.set_xticks(positions, names, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(positions, names, rotation=90)


def _frame(axes: Axes, columns: list[_Column], groups: dict[str, tuple[float, float]], titles: list[str]) -> None:
    axes.grid(False)
    axes.set_facecolor("white")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, columns[-1].position + 0.5)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_yticks(range(len(titles)), [plain(variant) for variant in titles])
    for boundary in range(1, len(titles)):
        axes.axhline(boundary - 0.5, color="white", linewidth=1)
    for column in columns[:-1]:
        axes.axvline(column.position + 0.5, color="white", linewidth=1)
    for label, (begin, end) in groups.items():
        axes.plot([begin + 0.05, end - 0.05], [-0.62, -0.62], color="#444444", linewidth=0.8, clip_on=False)
        axes.text((begin + end) / 2, -0.72, label, ha="center", va="bottom")
