"""Failure rate under attack against the share of clean images that are answered, for a model that may refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import AttackDesign, CoverageCurve, measure_coverage, open_evaluations
from gauntlet.reporting.figures.attack_choice import strongest_attack
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import (
    Style,
    hide_unused,
    legend_above,
    legend_rows,
    line_style,
    norm_label,
    note_below,
    plain,
)
from gauntlet.reporting.footnotes import flagged, flags_note
from gauntlet.reporting.formatting import budget_text

_COLUMNS = 3
_MARKED_EVERY = 10

Row = dict[str, Any]


@FIGURES.register(
    "coverage",
    reads=("evaluations", "summary"),
    needs=("attacks",),
    title="Failure rate against coverage",
    caption="A model that answers only above a threshold on its confidence: the share of attacked images that it "
    "answers wrongly against the share of clean images that it answers at all, as the threshold falls from left to "
    "right. Only an attack that maximizes confidence shows the worst.",
)
def failure_against_coverage(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one panel per attack that maximizes confidence and one line per variant, pooled over seeds.

    Without such an attack, the one that left the fewest samples standing is drawn, and the note says that its images
    do not maximize confidence.
    """
    rows = read_table(inputs.path("summary")).to_pylist()
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        attacks = evaluations.design.attacks
        shown = [attack for attack in attacks if attack.maximizes == "confidence"]
        shown = shown or list(filter(None, [strongest_attack(attacks, rows)]))
        curves = {
            (attack.name, variant): measure_coverage(evaluations, variant, attack.name)
            for attack in shown
            for variant in inputs.variants
        }
    columns = min(_COLUMNS, max(1, len(shown)))
    lines = -(-max(1, len(shown)) // columns)
    wide = columns > 1
    names = {attack.name for attack in shown}
    told = [row for row in rows if row["attack"] in names]
    labels = {
        variant: inputs.title(variant) + flagged([row for row in told if row["variant"] == variant])
        for variant in inputs.variants
    }
    height = 2.45 * lines + style.legend_row_in * legend_rows(list(labels.values()), style, wide=wide)[1]
    figure, panels = style.figure(lines, columns, height_in=height, wide=wide, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for attack, axes in zip(shown, panels.flat, strict=False):
        for variant in inputs.variants:
            curve = curves[attack.name, variant]
            if curve is not None:
                handles[labels[variant]] = _draw(axes, inputs, variant, curve)
        axes.set_title(f"{plain(attack.title or attack.name)} ({_budgets(attack)})", loc="left")
    hide_unused(list(panels.flat)[max(1, len(shown)) :])
    for axes in panels[-1]:
        axes.set_xlabel("Clean images answered (%)")
    for axes in panels[:, 0]:
        axes.set_ylabel("Failures under attack (%)")
        axes.set_xlim(-2, 102)
        axes.set_ylim(-2, 102)
    legend_above(figure, handles, style, wide=wide)
    modest = any(attack.maximizes != "confidence" for attack in shown)
    note = "confidence was not maximized: the worst may be higher" if modest else ""
    note_below(figure, [note, *flags_note(told, missing="cells are missing", doubt="too low")], style, wide=wide)
    return figure


def _draw(axes: Axes, inputs: FigureInputs, variant: str, curve: CoverageCurve) -> Any:
    look: Mapping[str, Any] = line_style(inputs.variants, variant)
    return axes.plot(100 * curve.clean, 100 * curve.failure, **look, markevery=_MARKED_EVERY, clip_on=False)[0]


def _budgets(attack: AttackDesign) -> str:
    """Write the norm of an attack and, where it is bounded, up to which budget it went."""
    norm = norm_label(attack.norm)
    return f"{norm} ≤ {budget_text(max(attack.epsilons))}" if attack.epsilons else norm
