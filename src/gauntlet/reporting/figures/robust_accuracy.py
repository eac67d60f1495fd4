"""Robust accuracy against the perturbation budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation.definitions import WORST_CASE, is_worst_case
from gauntlet.reporting.figures.blocks import marked_note, panel_blocks, variant_legend
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text, units_text

_MOST_WITH_ATTACKS = 6
_WIDE_RATIO = 10
_FEWEST_SEEDS = 3

Row = dict[str, Any]


@FIGURES.register(
    "robust_accuracy",
    reads=("summary",),
    needs=("attacks",),
    lines=True,
    faceted=True,
    title="Robust accuracy against the budget",
    caption="Share of test samples that no attack fooled within ε: the worst case per sample over all attacks of a "
    "norm (bold, with the 95 % t-interval over three or more seeds) and single attacks (thin). At ε = 0: clean "
    "accuracy.",
)
def robust_accuracy(inputs: FigureInputs, *, style: Style, attacks: bool | None = None) -> Figure:
    """Draw one panel per norm, with a bold line per variant for the worst case, and its band.

    The band is the t-interval over three or more seeds, or the Wilson interval for a single seed. With `attacks`, by
    default for few variants, each single attack is a thin line, broken at budgets that it was not run at, and a hollow
    mark at a budget whose neighbors it was not run at. Nothing was measured between the marked budgets: lines only
    guide the eye.
    """
    rows = [
        row
        for row in read_table(inputs.path("summary")).to_pylist()
        if row["robust_accuracy"] is not None and inputs.has_accuracy(row["attack"])
    ]
    norms = list(dict.fromkeys(row["norm"] for row in rows if is_worst_case(row["attack"]))) or ["linf"]
    wide = len(norms) > 1
    attacks = len(inputs.variants) <= _MOST_WITH_ATTACKS if attacks is None else attacks
    figure, blocks = panel_blocks(
        inputs, len(norms), len(norms), style=style, height_in=2.45, legend=inputs.titles_of(), wide=wide, sharey=True
    )
    handles: dict[str, Any] = {}
    for norm, block in zip(norms, blocks, strict=True):
        norm_rows = [row for row in rows if row["norm"] == norm]
        for variant in inputs.variants:
            variant_rows = [row for row in norm_rows if row["variant"] == variant]
            worst = [row for row in variant_rows if row["attack"] == f"{WORST_CASE}{norm}"]
            if not worst:
                continue
            label = inputs.title(variant) + footnote_marks([row for row in rows if row["variant"] == variant])
            for axes in block.of(variant):
                if attacks:
                    _draw_attacks(axes, inputs, variant, variant_rows, style)
                handles[label] = _draw_worst(axes, inputs, variant, worst)
        next_to = len(inputs.facets.columns) if inputs.facets else len(norms)
        for axes in block.axes:
            _label(axes, norm, sorted({row["epsilon"] for row in norm_rows}), style, panels=next_to)
            if inputs.facets or norm == norms[0]:
                axes.set_ylabel("Robust accuracy (%)")
                axes.set_ylim(-2, 102)
        block.label_facets()
    variant_legend(figure, inputs, handles, style, wide=wide)
    is_single = any(line.get_linestyle() == "None" for block in blocks for axes in block.axes for line in axes.lines)
    thin = f"thin{', hollow marks' if is_single else ''}: single attacks" if attacks else ""
    bands = _band_note([row for row in rows if is_worst_case(row["attack"]) and row["variant"] in inputs.variants])
    shown = [row for row in rows if row["variant"] in inputs.variants]
    bold = "bold: worst case over attacks, per sample"
    notes = [bold, thin, bands, *inputs.exclusion_notes(), *footnotes(shown), marked_note(inputs, shown)]
    note_below(figure, notes, style, wide=wide)
    return figure


def _draw_worst(axes: Axes, inputs: FigureInputs, variant: str, rows: list[Row]) -> Any:
    budgets, accuracy = _curve(rows)
    line = inputs.look(variant)
    if _has_band(rows[0]):
        low, high = (
            100 * np.clip([row[f"{'wilson' if row['t_low'] is None else 't'}_{end}"] for row in rows], 0, 1)
            for end in ("low", "high")
        )
        axes.fill_between(
            budgets[1:],
            low,
            high,
            color=line["color"],
            alpha=0.15 if len(inputs.variants) <= _MOST_WITH_ATTACKS else 0.06,
            linewidth=0,
        )
    return axes.plot(budgets, accuracy, **line, zorder=3)[0]


def _has_band(row: Row) -> bool:
    """Return whether a row's curve has intervals to draw: those over two seeds are wide enough to hide the panel."""
    return bool(row["seeds"] == 1 or row["seeds"] >= _FEWEST_SEEDS)


def _band_note(rows: list[Row]) -> str:
    """Return the note on the bands of worst cases, by the summary rows of these."""
    over_seeds = [row["t_low"] is not None for row in rows if _has_band(row)]
    kinds = {True: "t-interval over seeds", False: "Wilson interval over samples"}
    named = " or ".join(name for kind, name in kinds.items() if kind in over_seeds)
    return f"band: 95 % {named}" if named else "no bands: fewer than three seeds" if rows else ""


def _draw_attacks(axes: Axes, inputs: FigureInputs, variant: str, rows: list[Row], style: Style) -> None:
    line = inputs.look(variant) | {"marker": "", "linewidth": 0.5 * style.line_pt, "alpha": 0.45}
    budgets = sorted({row["epsilon"] for row in rows})
    for attack in dict.fromkeys(row["attack"] for row in rows if not is_worst_case(row["attack"])):
        measured = {row["epsilon"]: 100 * row["robust_accuracy"] for row in rows if row["attack"] == attack}
        clean = next(100 * row["clean_accuracy"] for row in rows if row["attack"] == attack)
        # Across a budget that the attack was not run at, a straight line could pass below the worst case there.
        accuracy = np.array([clean, *(measured.get(budget, np.nan) for budget in budgets)])
        measured_at = np.isfinite(accuracy)
        if (measured_at[:-1] & measured_at[1:]).any():
            axes.plot([0.0, *budgets], accuracy, **line, zorder=2)
        # A line needs two budgets next to each other; a single one is a mark.
        neighbors = np.pad(measured_at, 1)
        single = measured_at & ~neighbors[:-2] & ~neighbors[2:]
        single[0] = False
        mark = {"linestyle": "", "marker": inputs.look(variant)["marker"] or "o", "markerfacecolor": "none"}
        if single.any():
            axes.plot(np.array([0.0, *budgets])[single], accuracy[single], **line | mark, zorder=2)


def _curve(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return the budgets and accuracies of a line, in percent; at budget 0, the clean accuracy."""
    budgets = np.array([0.0, *(row["epsilon"] for row in rows)])
    accuracy = 100 * np.array([rows[0]["clean_accuracy"], *(row["robust_accuracy"] for row in rows)])
    return budgets, accuracy


def _label(axes: Axes, norm: str, budgets: list[float], style: Style, *, panels: int) -> None:
    """Label the axis of budgets, on a logarithmic scale for a wide range, and as many of them as there is room for."""
    positive = [budget for budget in budgets if budget > 0]
    if positive and positive[-1] / positive[0] >= _WIDE_RATIO:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
    axes.set_xlim(left=0)
    width_in = 0.85 * (style.two_columns_in / panels if panels > 1 else style.one_column_in)
    ticks: list[float] = []
    for tick in [0.0, *reversed(positive)]:
        if all(
            abs(_position(axes, tick) - _position(axes, other)) * width_in > _label_in(tick, style) for other in ticks
        ):
            ticks.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_major_formatter(FixedFormatter([budget_text(tick) for tick in sorted(ticks)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"Budget ε in {norm_label(norm)} ({units_text([norm])})")


def _position(axes: Axes, budget: float) -> float:
    """Return the position of a budget on the axis, from 0 to 1."""
    return float((axes.transScale + axes.transLimits).transform((budget, 0.0))[0])


def _label_in(budget: float, style: Style) -> float:
    return (len(budget_text(budget)) + 1) * style.letter_em * style.small_pt / 72
