"""Certified radius against the smallest adversarial distance, for every certified sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import count_missing, open_evaluations
from gauntlet.reporting.aggregation.definitions import CERTIFIED
from gauntlet.reporting.figures.image_grids import write_instead
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, norm_label, note_below, plain
from gauntlet.reporting.footnotes import missing_note

_PAIRS = f"""
    SELECT c.variant, c.norm, c.certificate, c.radius, nearest.distance
    FROM read_parquet($certificates, hive_partitioning = false) AS c
    LEFT JOIN (
        SELECT variant, seed, norm, index, sample_hash, min(distance) AS distance FROM evaluations GROUP BY ALL
    ) AS nearest USING (variant, seed, norm, index, sample_hash)
    WHERE {CERTIFIED} AND NOT list_contains($of_others::VARCHAR[], c.certificate)
    ORDER BY c.variant, c.norm, c.certificate, c.seed, c.index
"""


@FIGURES.register(
    "certificate_distance",
    reads=("certificates", "evaluations"),
    needs=("attacks", "certificates"),
    lines=True,
    title="Certified radii against adversarial distances",
    caption="Certified radius of every certified sample against the smallest distance at which any attack of the norm "
    "fooled it. A point below the diagonal would refute the certificate. Certificates of smoothed classifiers, which "
    "were not attacked, are left out.",
)
def certificate_distance(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw every certified and fooled sample as a point, in one panel per norm; the diagonal is the certified bound.

    Both axes are in pixel units of [0, 1]. Samples that no attack fooled have no distance; a note counts them. A panel
    without points states why.
    """
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        of_others = list(evaluations.design.derived_certificates)
        parameters = {"certificates": str(inputs.path("certificates")), "of_others": of_others}
        table = evaluations.query(_PAIRS, **parameters).to_pydict()
        attacks = [attack.name for attack in evaluations.design.attacks if attack.norm in table["norm"]]
        missing = count_missing(evaluations, set(table["variant"]), attacks)
    variant_of, norm_of = np.asarray(table["variant"]), np.asarray(table["norm"])
    radius = np.asarray(table["radius"], dtype=np.float64)
    distance = np.asarray([np.nan if value is None else value for value in table["distance"]], dtype=np.float64)
    norms = list(dict.fromkeys(table["norm"])) or ["l2"]
    certified = inputs.titles_of(name for name in inputs.variants if name in table["variant"])
    height = (3.7 if np.isfinite(distance).any() else 1.0) + style.legend_row_in * legend_rows(
        certified, style, wide=len(norms) > 1
    )[1]
    figure, panels = style.figure(1, len(norms), height_in=height, wide=len(norms) > 1)
    handles: dict[str, Any] = {}
    for norm, axes in zip(norms, panels[0], strict=True):
        in_norm = norm_of == norm
        fooled = in_norm & np.isfinite(distance)
        for variant in inputs.variants:
            rows = fooled & (variant_of == variant)
            if rows.any():
                handles[inputs.title(variant)] = _scatter(axes, inputs, variant, radius[rows], distance[rows])
        if fooled.any():
            _frame(axes, norm, radius[fooled], distance[fooled], style)
        else:
            write_instead(axes, _reason(int(in_norm.sum()), of_others), size_pt=style.font_pt)
    legend_above(figure, handles, style, wide=len(norms) > 1)
    unfooled, refuted = int(np.isnan(distance).sum()), int((distance < radius).sum())
    notes = [f"{len(radius)} certified samples, {refuted} refuted", f"{unfooled} that no attack fooled are not drawn"]
    notes = notes if len(radius) else []
    left_out = f"left out, not of the attacked model: {', '.join(map(plain, of_others))}" if of_others else ""
    notes = [*notes, missing_note(missing, "more may be fooled"), left_out]
    note_below(figure, notes, style, wide=len(norms) > 1)
    return figure


def _scatter(
    axes: Axes, inputs: FigureInputs, variant: str, radius: NDArray[np.float64], distance: NDArray[np.float64]
) -> Any:
    line = line_style(inputs.variants, variant)
    # Thousands of points would make a vector file large, so the points alone are rasterized.
    return axes.scatter(
        radius, distance, s=7, color=line["color"], marker=line["marker"], alpha=0.5, linewidths=0, rasterized=True
    )


def _reason(certified: int, of_others: list[str]) -> str:
    """Return why a panel has no points."""
    if certified:
        return f"No attack of the norm fooled any of the\n{certified} certified samples."
    if of_others:
        return "No sample has a certificate of the model\nthat was attacked, so nothing can be compared."
    return "No sample was certified."


def _frame(axes: Axes, norm: str, radius: NDArray[np.float64], distance: NDArray[np.float64], style: Style) -> None:
    positive = np.concatenate([radius[radius > 0], distance[distance > 0]])
    low, high = (positive.min() / 1.3, positive.max() * 1.3) if len(positive) else (0.1, 1.0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.plot([low, high], [low, high], color="#444444", linewidth=0.8, linestyle="--")
    axes.fill_between([low, high], low, [low, high], color="#444444", alpha=0.08, linewidth=0)
    axes.text(
        0.96, 0.04, "certificate refuted", transform=axes.transAxes, ha="right", va="bottom",
        fontsize=style.small_pt, color="#444444",
    )  # fmt: skip
    axes.set_xlabel(f"Certified radius ({norm_label(norm)}, pixel units)")
    axes.set_ylabel(f"Smallest distance found ({norm_label(norm)}, pixel units)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
