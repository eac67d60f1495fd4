"""Histograms of every variant's confidence in clean images, adversarial images and noise.

Figure of: Le 2019, journal of logic-inspired networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import (
    AttackDesign,
    Evaluations,
    ExperimentDesign,
    count_confidences,
    count_missing,
    open_evaluations,
)
from gauntlet.reporting.figures.attack_choice import strongest_attack
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import PALETTE, Style, hide_unused, legend_above, legend_rows, note_below, plain
from gauntlet.reporting.footnotes import clean_note, missing_note

_BINS = 20
_COLUMNS = 4

Histograms = dict[str, NDArray[np.int64]]


@FIGURES.register(
    "confidence",
    reads=("evaluations", "summary"),
    needs=("attacks",),
    title="Confidence in clean images, adversarial images and noise",
    caption="Distribution of the confidence in the predicted class: for all clean images, for successful adversarial "
    "images of the named attack, and for images of noise if there are any; pooled over seeds. A trustworthy model has "
    "low confidence in the latter two.",
)
def confidence_histograms(inputs: FigureInputs, *, style: Style, most_variants: int = 16) -> Figure:
    """Draw one panel per variant with a histogram for each kind of image, in percent of the images of that kind.

    The attack is the first that maximizes confidence, else the bounded attack with the lowest robust accuracy. The
    noise is the first attack whose images are no perturbations, else the first that draws them at random.
    """
    rows = read_table(inputs.path("summary")).to_pylist()
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        attack, noise = _attack_and_noise(evaluations.design, rows)
        histograms = {name: _histograms(evaluations, name, attack, noise) for name in inputs.variants}
        clean_samples = evaluations.design.clean_samples
        missing = count_missing(evaluations, inputs.variants, [one.name for one in (attack, noise) if one])
    measured = [name for name, by_kind in histograms.items() if by_kind]
    variants = measured[:most_variants]
    kinds = [kind for kind in _LINES if any(kind in histograms[name] for name in variants)]
    columns = max(1, min(_COLUMNS, len(variants)))
    wide = columns > 1
    panel_rows = -(-max(1, len(variants)) // columns)
    height = 0.55 + 1.45 * panel_rows + style.legend_row_in * legend_rows(kinds, style, wide=wide)[1]
    figure, panels = style.figure(panel_rows, columns, height_in=height, wide=wide, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for variant, axes in zip(variants, panels.flat, strict=False):
        for kind, counts in histograms[variant].items():
            handles[kind] = _draw(axes, counts, kind, style)
        axes.set_title(plain(inputs.title(variant)), loc="left")
        axes.tick_params(labelbottom=True)
    hide_unused(list(panels.flat)[max(1, len(variants)) :])
    panels[0][0].set_xlim(0, 1)
    panels[0][0].set_ylim(bottom=0)
    panels[0][0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    for axes in panels[:, 0]:
        axes.set_ylabel("Images (%)")
    for axes in list(panels.flat)[max(0, len(variants) - columns) : len(variants)]:
        axes.set_xlabel("Confidence")
    legend_above(figure, {kind: handles[kind] for kind in kinds}, style, wide=wide)
    note_below(
        figure,
        [
            f"adversarial: {_printed(attack)}" if attack else "",
            f"noise: {_printed(noise)}" if noise else "",
            clean_note(clean_samples),
            missing_note(missing, "their images are left out"),
            "" if attack is None or attack.maximizes == "confidence" else "confidence was not maximized",
            f"the first {len(variants)} of {len(measured)} variants" if len(variants) < len(measured) else "",
        ],
        style,
        wide=wide,
    )
    return figure


_LINES: dict[str, dict[str, Any]] = {
    "clean": {"fill": True, "facecolor": "#d4d4d4", "edgecolor": "#8a8a8a", "linewidth": 0.6},
    "adversarial": {"color": PALETTE[1], "linestyle": "-"},
    "noise": {"color": PALETTE[0], "linestyle": (0, (2.5, 1.2))},
}


def _attack_and_noise(
    design: ExperimentDesign, summary: Sequence[dict[str, Any]]
) -> tuple[AttackDesign | None, AttackDesign | None]:
    """Choose the attack and the noise to draw, None if there is none."""
    noises = sorted(
        (attack for attack in design.attacks if attack.noise or not attack.is_perturbation),
        key=lambda attack: attack.is_perturbation,
    )
    searching = [attack for attack in design.attacks if attack not in noises]
    confident = next((attack for attack in searching if attack.maximizes == "confidence"), None)
    return confident or strongest_attack(searching, summary), next(iter(noises), None)


def _printed(attack: AttackDesign) -> str:
    """Return the printed name of an attack, with the number of its samples where these are not all."""
    few = f", on the first {attack.samples} samples only" if attack.samples else ""
    return f"{plain(attack.title or attack.name)}{few}"


def _histograms(
    evaluations: Evaluations, variant: str, attack: AttackDesign | None, noise: AttackDesign | None
) -> Histograms:
    """Count images of each kind by confidence; kinds without images are left out."""
    design, histograms = evaluations.design, Histograms()
    for drawn, kind in ((attack, "adversarial"), (noise, "noise")):
        if drawn is not None:
            counts = count_confidences(evaluations, variant, drawn.name, bins=_BINS)
            if drawn.name in design.clean_attacks:
                histograms.setdefault("clean", counts.clean)
            # All images of noise count, but of an attack only those that fool: the others are nearly clean.
            histograms[kind] = counts.fooled if kind == "adversarial" else counts.fooled + counts.robust
    for name in design.clean_attacks if histograms and "clean" not in histograms else ():
        clean = count_confidences(evaluations, variant, name, bins=_BINS).clean
        if clean.any():
            histograms["clean"] = clean
            break
    return {kind: histograms[kind] for kind in _LINES if kind in histograms and histograms[kind].any()}


def _draw(axes: Axes, counts: NDArray[np.int64], kind: str, style: Style) -> Any:
    share = 100 * counts / counts.sum()
    edges = np.linspace(0, 1, len(counts) + 1)
    line = {"linewidth": 0.9 * style.line_pt, "zorder": 2 + list(_LINES).index(kind), **_LINES[kind]}
    return axes.stairs(share, edges, **line)
