"""Certified radius of the model against the smallest adversarial distance found, for every certified sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import open_evaluations
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, legend_above, legend_rows, line_style, norm_label, note_below, plain

_PAIRS = """
    SELECT c.variant, c.norm, c.certificate, c.radius, found.distance
    FROM read_parquet($certificates, hive_partitioning = false) AS c
    LEFT JOIN (
        SELECT variant, seed, norm, index, sample_hash, min(distance) AS distance FROM evaluations GROUP BY ALL
    ) AS found USING (variant, seed, norm, index, sample_hash)
    WHERE c.status = 'certified' AND NOT list_contains($of_others::VARCHAR[], c.certificate)
    ORDER BY c.variant, c.norm, c.certificate, c.seed, c.index
"""


@FIGURES.register(
    "certificate_distance",
    reads=("certificates", "evaluations"),
    needs=("attacks", "certificates"),
    title="Certificates against distances",
    caption="Certified radius of every certified sample against the smallest distance at which any attack of the norm "
    "fooled it. A point below the diagonal would refute the certificate. Certificates of smoothed classifiers, which "
    "were not attacked, are left out.",
)
def certificate_distance(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw every certified and fooled sample as a point, one panel per norm; the diagonal is the certificate's claim.

    Both axes are in pixel units of [0, 1]. Samples that no attack fooled have no distance; the note counts them. Where
    nothing is left to draw the panel says why.
    """
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        others = list(evaluations.design.of_others)
        table = evaluations.query(_PAIRS, certificates=str(inputs.path("certificates")), of_others=others).to_pydict()
    pairs = {key: np.asarray(values) for key, values in table.items() if key in ("variant", "norm", "certificate")}
    radius = np.asarray(table["radius"], dtype=np.float64)
    distance = np.asarray([np.nan if value is None else value for value in table["distance"]], dtype=np.float64)
    norms = list(dict.fromkeys(table["norm"])) or ["l2"]
    certified = inputs.titles_of(dict.fromkeys(table["variant"]))
    height = (3.7 if np.isfinite(distance).any() else 1.0) + style.legend_row_in * legend_rows(
        certified, style, wide=len(norms) > 1
    )[1]
    figure, panels = style.figure(1, len(norms), height_in=height, wide=len(norms) > 1)
    handles: dict[str, Any] = {}
    for norm, axes in zip(norms, panels[0], strict=True):
        for variant in inputs.variants:
            chosen = (pairs["norm"] == norm) & (pairs["variant"] == variant) & np.isfinite(distance)
            if chosen.any():
                handles[inputs.title(variant)] = _scatter(axes, inputs, variant, radius[chosen], distance[chosen])
        here = pairs["norm"] == norm
        inside = np.isfinite(distance) & here
        if inside.any():
            _frame(axes, norm, radius[inside], distance[inside], style)
        else:
            _say(axes, _nothing_drawn(int(here.sum()), others), style)
    legend_above(figure, handles, style, wide=len(norms) > 1)
    kept, broken = int(np.isnan(distance).sum()), int((distance < radius).sum())
    notes = [f"{len(radius)} certified samples, {broken} refuted", f"{kept} that no attack fooled are not drawn"]
    notes = notes if len(radius) else []
    left_out = f"left out, not about the model: {', '.join(map(plain, others))}" if others else ""
    note_below(figure, [*notes, left_out], style, wide=len(norms) > 1)
    return figure


def _scatter(
    axes: Axes, inputs: FigureInputs, variant: str, radius: NDArray[np.float64], distance: NDArray[np.float64]
) -> Any:
    look = line_style(inputs.variants, variant)
    # A vector file would hold each of many thousand points; the points alone become an image.
    return axes.scatter(
        radius, distance, s=7, color=look["color"], marker=look["marker"], alpha=0.5, linewidths=0, rasterized=True
    )


def _nothing_drawn(certified: int, others: list[str]) -> str:
    if certified:
        return f"No attack of the norm fooled any of the\n{certified} certified samples."
    if others:
        return "No sample has a certificate of the model\nthat was attacked, so nothing can be compared."
    return "No sample was certified."


def _say(axes: Axes, text: str, style: Style) -> None:
    """Put a sentence where axes would be empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=style.font_pt)


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
