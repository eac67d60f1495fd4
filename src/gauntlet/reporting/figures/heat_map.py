"""Robust accuracy of every variant under every attack at one budget per norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import WORST_CASE, open_evaluations
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below, plain
from gauntlet.reporting.footnotes import flagged, flags_note
from gauntlet.reporting.formatting import budget_text

_GAP = 0.25
_SLANTED_IN = 0.45

Row = dict[str, Any]


@dataclass(frozen=True)
class _Column:
    """A column of the map: where it stands, what heads it, and the row of each variant that has one."""

    place: float
    name: str
    rows: dict[str, Row]
    key: str = "robust_accuracy"
    bold: bool = False


@FIGURES.register(
    "heat_map",
    reads=("evaluations", "summary"),
    needs=("attacks",),
    title="Variants against attacks",
    caption="Robust accuracy in percent, mean over seeds, of every variant under every attack at one budget per norm; "
    "first the worst case per sample over all attacks of the norm. Blank: the attack was not run at this budget.",
)
def heat_map(inputs: FigureInputs, *, style: Style, epsilon: float | None = None) -> Figure:
    """Draw one row per variant and one column per attack, grouped by norm, worst case first.

    `epsilon` states the budget for every norm; by default it is, for each norm, the first of the experiment's
    `headline`, else the one that most attacks have in common and, among those, at which the worst case is nearest to
    half of the clean accuracy, where variants differ most.
    """
    rows = read_table(inputs.path("summary")).to_pylist()
    variants = [name for name in inputs.variants if any(row["variant"] == name for row in rows)]
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        asked = evaluations.design.headline
    norms = dict.fromkeys(row["norm"] for row in rows)
    stated = {norm: epsilon or (asked[norm][0] if asked.get(norm) else stated_budget(rows, norm)) for norm in norms}
    columns, groups = _columns(rows, stated, inputs)
    height = 1.3 + 0.27 * len(variants)
    label_in = style.letter_em * style.small_pt / 72 * max(map(len, inputs.titles_of(variants)), default=0)
    wide = len(columns) > 4 or label_in > 0.3 * style.one_column_in
    figure, panels = style.figure(1, 1, height_in=height, wide=wide)
    # What a column leaves for its numbers and its head; beyond some twenty columns the numbers shrink.
    width_in = style.two_columns_in if wide else style.one_column_in
    room_in = max(0.03 * width_in, 0.87 * width_in - label_in) / len(columns)
    size_pt = min(style.font_pt, room_in * 72 / 3.4)
    axes: Axes = panels[0][0]
    image = None
    for column in columns:
        values = np.array([[_value(column, variant)] for variant in variants])
        extent = (column.place - 0.5, column.place + 0.5, len(variants) - 0.5, -0.5)
        image = axes.imshow(
            np.ma.masked_invalid(100 * values), extent=extent, cmap="cividis", vmin=0, vmax=100, aspect="auto"
        )
        for place, variant in enumerate(variants):
            _write(axes, column, place, variant, size_pt)
    _frame(axes, columns, groups, inputs.titles_of(variants))
    _head(axes, columns, style, room_in)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
        bar.set_label("Accuracy (%)")
        bar.outline.set_visible(False)
    if notes := flags_note(rows):
        note_below(figure, notes, style, wide=wide)
    return figure


def stated_budget(rows: list[Row], norm: str) -> float:
    """Choose the budget of a norm at which variants are compared in one number; 0 where nothing was measured."""
    here = [row for row in rows if row["norm"] == norm and row["robust_accuracy"] is not None]
    worst = [row for row in here if row["attack"].startswith(WORST_CASE)]
    if not worst:
        return 0.0
    half = float(np.mean([row["clean_accuracy"] for row in worst])) / 2
    shared: dict[float, set[str]] = {row["epsilon"]: set() for row in worst}
    for row in here:
        shared.get(row["epsilon"], set()).add(row["attack"])
    most = max(map(len, shared.values()))
    common = [budget for budget, attacks in shared.items() if len(attacks) == most]
    mean = {at: float(np.mean([row["robust_accuracy"] for row in worst if row["epsilon"] == at])) for at in common}
    return min(common, key=lambda at: abs(mean[at] - half))


def _columns(
    rows: list[Row], stated: dict[str, float], inputs: FigureInputs
) -> tuple[list[_Column], dict[str, tuple[float, float]]]:
    """List the columns from left to right, and where each group of them begins and ends."""
    first = {row["variant"]: row for row in reversed(rows)}
    columns = [_Column(0.0, "clean", first, key="clean_accuracy", bold=True)]
    groups: dict[str, tuple[float, float]] = {}
    place = 1.0 + _GAP
    for norm, budget in stated.items():
        here = [row for row in rows if row["norm"] == norm]
        begin = place
        for attack in sorted(
            dict.fromkeys(row["attack"] for row in here), key=lambda name: not name.startswith(WORST_CASE)
        ):
            found = {
                row["variant"]: row for row in here if row["attack"] == attack and np.isclose(row["epsilon"], budget)
            }
            worst = attack.startswith(WORST_CASE)
            columns.append(_Column(place, "worst case" if worst else inputs.attack_title(attack), found, bold=worst))
            place += 1
        groups[f"{norm_label(norm)}, ε = {budget_text(budget)}"] = begin - 0.5, place - 0.5
        place += _GAP
    return columns, groups


def _value(column: _Column, variant: str) -> float:
    value = column.rows.get(variant, {}).get(column.key)
    return np.nan if value is None else float(value)


def _write(axes: Axes, column: _Column, place: int, variant: str, size_pt: float) -> None:
    value = _value(column, variant)
    row = column.rows.get(variant)
    marks = flagged([row]) if row and column.key == "robust_accuracy" else ""
    text = "–" if np.isnan(value) else f"{100 * value:.1f}"
    written = axes.text(column.place, place, text + marks, ha="center", va="center", size=size_pt)
    written.set(color="white" if value < 0.47 else "black", weight="bold" if column.bold else "normal")


def _head(axes: Axes, columns: list[_Column], style: Style, room_in: float) -> None:
    """Name the columns: level where the names fit, else slanted, else upright."""
    places = [column.place for column in columns]
    names = [plain(column.name) for column in columns]
    longest = max(len(word) for name in names for word in name.split())
    if longest * style.letter_em * style.small_pt / 72 <= room_in:
        axes.set_xticks(places, [name.replace("worst case", "worst\ncase") for name in names])
    elif room_in >= _SLANTED_IN:
        axes.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, names, rotation=90)


def _frame(axes: Axes, columns: list[_Column], groups: dict[str, tuple[float, float]], titles: list[str]) -> None:
    axes.grid(False)
    axes.set_facecolor("white")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, columns[-1].place + 0.5)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_yticks(range(len(titles)), [plain(variant) for variant in titles])
    for boundary in range(1, len(titles)):
        axes.axhline(boundary - 0.5, color="white", linewidth=1)
    for column in columns[:-1]:
        axes.axvline(column.place + 0.5, color="white", linewidth=1)
    for label, (begin, end) in groups.items():
        axes.plot([begin + 0.05, end - 0.05], [-0.62, -0.62], color="#444444", linewidth=0.8, clip_on=False)
        axes.text((begin + end) / 2, -0.72, label, ha="center", va="bottom")
