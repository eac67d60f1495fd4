"""Failure rate under attack against coverage, for models that may reject images of low confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import AttackDesign, CoverageCurve, measure_coverage, open_evaluations
from gauntlet.reporting.figures.attack_choice import strongest_attack
from gauntlet.reporting.figures.blocks import marked_note, panel_blocks, variant_legend
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below, plain
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text

_COLUMNS = 3
_MARKED_EVERY = 10

Row = dict[str, Any]


@FIGURES.register(
    "coverage",
    reads=("evaluations", "summary"),
    needs=("attacks",),
    lines=True,
    faceted=True,
    title="Failure rate against coverage",
    caption="A model that answers only above a threshold on its confidence: the share of attacked images that it "
    "answers wrongly, against the share of clean images that it answers at all, as the threshold falls from left to "
    "right. Only an attack that maximizes confidence shows the worst case.",
)
def failure_against_coverage(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one panel per attack that maximizes confidence and one line per variant, pooled over seeds.

    Without such an attack, the one with the lowest robust accuracy is drawn, of those that perturb the images, and a
    note says that confidence was not maximized.
    """
    rows = read_table(inputs.path("summary")).to_pylist()
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        attacks = evaluations.design.attacks
        drawn = [attack for attack in attacks if attack.maximizes == "confidence"]
        # Images that are no perturbations, such as noise, have no right answer.
        perturbing = [attack for attack in attacks if attack.is_perturbation] or attacks
        drawn = drawn or list(filter(None, [strongest_attack(perturbing, rows)]))
        curves = {
            (attack.name, variant): measure_coverage(evaluations, variant, attack.name)
            for attack in drawn
            for variant in inputs.variants
        }
    columns = min(_COLUMNS, max(1, len(drawn)))
    panel_rows = -(-max(1, len(drawn)) // columns)
    wide = columns > 1
    names = {attack.name for attack in drawn}
    attack_rows = [row for row in rows if row["attack"] in names and row["variant"] in inputs.variants]
    labels = {
        variant: inputs.title(variant) + footnote_marks([row for row in attack_rows if row["variant"] == variant])
        for variant in inputs.variants
    }
    figure, blocks = panel_blocks(
        inputs,
        max(1, len(drawn)),
        columns,
        style=style,
        height_in=2.45 * panel_rows,
        legend=list(labels.values()),
        wide=wide,
        sharex=True,
        sharey=True,
    )
    handles: dict[str, Any] = {}
    for attack, block in zip(drawn, blocks, strict=False):
        for variant in inputs.variants:
            curve = curves[attack.name, variant]
            if curve is not None:
                for axes in block.of(variant):
                    handles[labels[variant]] = _draw(axes, inputs, variant, curve)
        for axes in block.axes:
            axes.set_title(f"{plain(attack.title or attack.name)} ({_budgets(attack)})", loc="left")
    for number, block in enumerate(blocks):
        for axes in block.axes:
            if inputs.facets or number >= columns * (panel_rows - 1):
                axes.set_xlabel("Clean images answered (%)")
            if inputs.facets or number % columns == 0:
                axes.set_ylabel("Failures under attack (%)")
            axes.set_xlim(-2, 102)
            axes.set_ylim(-2, 102)
        block.label_facets()
    variant_legend(figure, inputs, handles, style, wide=wide)
    not_maximized = any(attack.maximizes != "confidence" for attack in drawn)
    note = "confidence was not maximized: the worst case may be higher" if not_maximized else ""
    marked = footnotes(attack_rows, missing="cells are missing", doubt="too low")
    few = [
        f"{plain(attack.title or attack.name)}: on the first {attack.samples} samples only"
        for attack in drawn
        if attack.samples
    ]
    note_below(figure, [note, *few, *marked, marked_note(inputs, attack_rows)], style, wide=wide)
    return figure


def _draw(axes: Axes, inputs: FigureInputs, variant: str, curve: CoverageCurve) -> Any:
    line: Mapping[str, Any] = inputs.look(variant)
    return axes.plot(100 * curve.clean, 100 * curve.failure, **line, markevery=_MARKED_EVERY, clip_on=False)[0]


def _budgets(attack: AttackDesign) -> str:
    """Return the norm of an attack and, for a bounded one, its largest budget."""
    norm = norm_label(attack.norm)
    return f"{norm} ≤ {budget_text(max(attack.epsilons))}" if attack.epsilons else norm
