"""Certified accuracy of every variant against the radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import (
    WORST_CASE,
    CertificateDesign,
    Evaluations,
    ExperimentDesign,
    count_missing,
    open_evaluations,
)
from gauntlet.reporting.aggregation.definitions import CERTIFIED
from gauntlet.reporting.figures.blocks import panel_blocks, variant_legend
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import (
    Style,
    hide_unused,
    norm_label,
    note_below,
    plain,
)
from gauntlet.reporting.footnotes import missing_note

_STEPS = 200
_EVERY_IN_FACETS = 4

# A row is in bucket k if its value reaches the first k steps above 0, in bucket -1 if not even 0; the last bucket
# also holds all larger values.
_CERTIFIED = f"""
    SELECT variant, seed, count(*) AS samples,
        CASE WHEN {CERTIFIED} THEN least(floor(radius / $step), $steps)::INT ELSE -1 END AS bucket
    FROM read_parquet($certificates, hive_partitioning = false) WHERE certificate = $name GROUP BY ALL
"""
_UNFOOLED = """
    SELECT variant, seed, count(*) AS samples,
        CASE WHEN fooled_at = 0 THEN -1 ELSE least(ceil(fooled_at / $step) - 1, $steps)::INT END AS bucket
    FROM outcomes WHERE name = $name GROUP BY ALL
"""
_LARGEST = """
    SELECT max(radius) AS largest FROM read_parquet($certificates, hive_partitioning = false) WHERE certificate = $name
"""

Curves = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class _Panel:
    """The curves of one certificate.

    `certified` and `unfooled` hold, per variant, the percent of samples certified at each `radius` (R,) and not fooled
    by any attack within it, (seeds, R).
    """

    certificate: CertificateDesign
    radius: NDArray[np.float64]
    certified: Curves
    unfooled: Curves


@FIGURES.register(
    "certified_accuracy",
    reads=("certificates", "evaluations"),
    needs=("certificates",),
    lines=True,
    faceted=True,
    title="Certified accuracy against the radius",
    caption="Share of all test samples whose correct class is certified against every perturbation smaller than the "
    "radius: mean over seeds, band from the lowest to the highest seed. Thin, for certificates of the attacked model: "
    "share that no attack of the norm fooled within the radius.",
)
def certified_accuracy(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one panel per certificate and one step curve per variant; the radius is in pixel units of [0, 1].

    A smoothed classifier is not the attacked model, so its panels have no curves of attacks.
    """
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        design = evaluations.design
        path = str(inputs.path("certificates"))
        panels = [_panel(evaluations, certificate, path) for certificate in design.certificates]
        norms = {panel.certificate.norm for panel in panels if panel.unfooled}
        attacks = [attack.name for norm in norms for attack in design.counted_in(norm)]
        missing = count_missing(evaluations, inputs.variants, attacks)
    names = [name for name in inputs.variants if any(name in panel.certified for panel in panels)]
    columns = 2 if len(panels) in (2, 4) else min(3, max(1, len(panels)))
    rows, wide = max(1, -(-len(panels) // columns)), columns > 1
    figure, blocks = panel_blocks(
        inputs,
        max(1, len(panels)),
        columns,
        style=style,
        height_in=0.55 + 1.9 * rows,
        legend=inputs.titles_of(names),
        wide=wide,
        sharey=True,
    )
    handles: dict[str, Any] = {}
    for number, (block, panel) in enumerate(zip(blocks, panels, strict=False)):
        for variant in (name for name in inputs.variants if name in panel.certified):
            for axes in block.of(variant):
                handles[variant] = _draw(
                    axes, panel, variant, inputs.look(variant), style, in_facets=bool(inputs.facets)
                )
        for axes in block.axes:
            _label(axes, panel)
            axes.set_ylim(-2, 102)
            if inputs.facets or number % columns == 0:
                axes.set_ylabel("Certified accuracy (%)")
        block.label_facets()
    if not panels:
        hide_unused(blocks[0].axes)
    variant_legend(figure, inputs, {inputs.title(name): handles[name] for name in names}, style, wide=wide)
    notes = [*_notes(design, panels, has_bands=inputs.facets is None), missing_note(missing, "thin may be too high")]
    note_below(figure, notes, style, wide=wide)
    return figure


def _panel(evaluations: Evaluations, certificate: CertificateDesign, path: str) -> _Panel:
    parameters = {"name": certificate.name, "certificates": path}
    (largest,) = evaluations.query(_LARGEST, **parameters)["largest"].to_pylist()
    scale = {"step": 1.06 * (largest or 1.0) / _STEPS, "steps": _STEPS}
    certified = _cumulated(evaluations.query(_CERTIFIED, **parameters, **scale).to_pydict())
    unfooled: Curves = {}
    if certificate.certifies == "model":
        unfooled = _cumulated(evaluations.query(_UNFOOLED, name=f"{WORST_CASE}{certificate.norm}", **scale).to_pydict())
    return _Panel(certificate, scale["step"] * np.arange(_STEPS + 1, dtype=np.float64), certified, unfooled)


def _cumulated(table: dict[str, list[Any]]) -> Curves:
    """Return the percent of samples that reach each step, one row per seed, from counts per variant, seed, bucket."""
    variant, seed, bucket, samples = (np.asarray(table[key]) for key in ("variant", "seed", "bucket", "samples"))
    curves: dict[str, list[NDArray[np.float64]]] = {}
    for name, number in sorted(set(zip(table["variant"], table["seed"], strict=True))):
        rows = (variant == name) & (seed == number)
        counts = np.bincount(bucket[rows] + 1, weights=samples[rows], minlength=_STEPS + 2)
        curves.setdefault(name, []).append(100 * counts[::-1].cumsum()[::-1][1:] / counts.sum())
    return {name: np.stack(seeds) for name, seeds in curves.items()}


def _draw(axes: Axes, panel: _Panel, variant: str, line: dict[str, Any], style: Style, *, in_facets: bool) -> Any:
    # Fewer points in facets, and no bands: they would be megabytes.
    every = _EVERY_IN_FACETS if in_facets else 1
    radius, shares = panel.radius[::every], panel.certified[variant][:, ::every]
    if variant in panel.unfooled:
        thin = line | {"marker": "", "linewidth": 0.5 * style.line_pt, "alpha": 0.7}
        axes.plot(radius, panel.unfooled[variant][:, ::every].mean(0), **thin, drawstyle="steps-post", zorder=2)
    # Between two steps the lower value is drawn: a certificate may shrink in print, but not grow.
    if not in_facets:
        band = {"color": line["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(radius, shares.min(0), shares.max(0), step="pre", **band)
    # Markers identify lines, not radii, so a few are enough.
    marked = (_STEPS // 16 // every, _STEPS // 8 // every)
    return axes.plot(radius, shares.mean(0), **line, drawstyle="steps-pre", markevery=marked, zorder=3)[0]


def _label(axes: Axes, panel: _Panel) -> None:
    name, certifies = panel.certificate.title or panel.certificate.name, panel.certificate.certifies
    axes.set_title(plain(name if certifies == "model" else f"{name} ({certifies} classifier)"), loc="left")
    axes.set_xlabel(f"Radius in {norm_label(panel.certificate.norm)} (pixel units of [0, 1])")
    axes.set_xlim(0, panel.radius[-1])


def _notes(design: ExperimentDesign, panels: list[_Panel], *, has_bands: bool) -> list[str]:
    """Return the notes on bands and thin lines, if there are any, and on missing cells."""
    band = "band: lowest to highest seed" if has_bands and len(design.seeds) > 1 else ""
    thin = "thin: no attack fooled the model within the radius" if any(panel.unfooled for panel in panels) else ""
    missing = sum(
        len(design.seeds_of(variant)) - len(panel.certified.get(variant, ()))
        for panel in panels
        for variant in panel.certificate.variants
    )
    return [band, thin, f"{missing} cells are missing" if missing else ""]
