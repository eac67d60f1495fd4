"""Panels of `paired_budgets`: lines between the budgets of a grid, densities of differences of distances."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from gauntlet.reporting.figures.paired_samples import Array, PairedSamples
from gauntlet.reporting.figures.style import PALETTE, Style, norm_label
from gauntlet.reporting.formatting import budget_text, decimal_text

_LARGER, _SMALLER, _EQUAL = PALETTE[0], PALETTE[1], "#999999"
_THICKEST_PT = 7.0
_LOWEST, _HIGHEST = 0.12, 0.88
"""Heights of the smallest and the largest budget; samples that are wrong are drawn at 0, never fooled ones at 1."""
_TICK_DISTANCE = 0.055
_MOST_BINS = 40
"""Bins on either side of 0 at most, fewer for few samples."""
_ROW_FILL = 0.75
"""Height of the highest bin, in rows."""


def draw_lines(
    axes: Axes,
    norm: str,
    pairs: Sequence[PairedSamples],
    budgets: Array,
    titles: Sequence[str],
    style: Style,
    *,
    width_in: float,
) -> None:
    """Draw variants from left to right, budgets from below, and lines between the same samples."""
    for column, pair in enumerate(pairs):
        _join(axes, column, pair, budgets, style)
        shares = f"+{decimal_text(pair.larger, digits=0)} %\n−{decimal_text(pair.smaller, digits=0)} %"
        axes.text(
            column + 0.5, 1.01, shares, transform=axes.get_xaxis_transform(),
            ha="center", va="bottom", size=style.small_pt,
        )  # fmt: skip
    for column in range(len(titles)):
        axes.axvline(column, color="#444444", linewidth=0.8, zorder=3)
    axes.set_xlim(-0.12, len(titles) - 0.88)
    axes.set_ylim(-0.06, 1.06)
    ticks = _ticks(budgets)
    axes.set_yticks(
        [0.0, *_heights(np.array(ticks), budgets), 1.0], ["wrong", *map(budget_text, ticks), "never fooled"]
    )
    longest_in = max(map(len, titles)) * style.letter_em * style.small_pt / 72
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(
        range(len(titles)),
        titles,
        **(slanted if longest_in > width_in / len(titles) else {}),
    )
    axes.set_ylabel(f"Smallest ε that fools, {norm_label(norm)}")


def _join(axes: Axes, column: int, pair: PairedSamples, budgets: Array, style: Style) -> None:
    """Draw the lines between two variants: one per pair of budgets, as thick as its samples are many."""
    ends = np.stack([_heights(pair.first, budgets), _heights(pair.second, budgets)], 1)
    shares = pair.samples / max(1.0, pair.samples.sum())
    sign = np.sign(pair.difference)
    for direction, color, line in ((0, _EQUAL, "-"), (-1, _SMALLER, (0, (3, 1.2))), (1, _LARGER, "-")):
        selected = sign == direction
        segments = [[(column, left), (column + 1, right)] for left, right in ends[selected]]
        widths = style.scale * np.maximum(0.25, _THICKEST_PT * np.sqrt(shares[selected]))
        axes.add_collection(
            LineCollection(segments, colors=color, linewidths=widths, linestyles=[line], alpha=0.55, zorder=2)
        )


def _heights(values: Array, budgets: Array) -> Array:
    """Map budgets to heights on a logarithmic scale, 0 to the foot and infinity to the top."""
    first, last = np.log(budgets[[0, -1]]) if len(budgets) else (0.0, 0.0)
    with np.errstate(divide="ignore"):
        share = (np.log(values) - first) / (last - first) if last > first else np.full(len(values), 0.5)
    inside = _LOWEST + (_HIGHEST - _LOWEST) * np.clip(share, 0, 1)
    return np.select([values <= 0, np.isinf(values)], [0.0, 1.0], inside)


def _ticks(budgets: Array) -> list[float]:
    """Return the budgets to name, the largest first as there is room."""
    named: list[float] = []
    heights: list[float] = []
    for budget, height in zip(budgets[::-1], _heights(budgets, budgets)[::-1], strict=True):
        if all(abs(height - other) > _TICK_DISTANCE for other in heights):
            named.append(float(f"{budget:.3g}"))
            heights.append(float(height))
    return named[::-1]


def draw_differences(
    axes: Axes, norm: str, pairs: Sequence[PairedSamples], titles: Sequence[str], style: Style
) -> None:
    """Draw one row per pair of variants: a histogram of the differences, with the samples outside it in words.

    All rows have the same bins, of which 0 is an edge, and the same scale of heights.
    """
    drawn = [np.isfinite(pair.difference) & (pair.difference != 0) for pair in pairs]
    values = np.concatenate([pair.difference[inside] for pair, inside in zip(pairs, drawn, strict=True)])
    limit = float(np.abs(values).max(initial=0.0)) or 1.0
    bins = int(np.clip(max(pair.samples.sum() for pair in pairs) ** 0.5, 10, _MOST_BINS))
    edges = np.linspace(-limit, limit, 2 * bins + 1)
    counts = [
        np.histogram(pair.difference[inside], edges, weights=pair.samples[inside])[0]
        for pair, inside in zip(pairs, drawn, strict=True)
    ]
    scale = _ROW_FILL / max(1.0, *(count.max() for count in counts))
    for row, (pair, count) in enumerate(zip(pairs, counts, strict=True)):
        base = len(pairs) - 1.0 - row
        for half, color in ((slice(0, bins), _SMALLER), (slice(bins, 2 * bins), _LARGER)):
            outline = edges[half.start : half.stop + 1]
            axes.stairs(base + scale * count[half], outline, baseline=base, fill=True, color=color, alpha=0.75)
        axes.axhline(base, color="#444444", linewidth=0.6)
        if np.isfinite(pair.median):
            axes.plot([pair.median] * 2, [base, base + _ROW_FILL], color="black", linewidth=style.line_pt)
        _describe(axes, base, pair, style)
    axes.axvline(0, color="#444444", linewidth=0.8, linestyle="--", zorder=3)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-0.05, len(pairs) - 0.05)
    axes.set_yticks(
        [len(pairs) - 1 + _ROW_FILL / 2 - row for row in range(len(pairs))],
        [f"{first}\n→ {second}" for first, second in itertools.pairwise(titles)],
    )
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"Difference of ε in {norm_label(norm)}")


def _describe(axes: Axes, base: float, pair: PairedSamples, style: Style) -> None:
    """Write shares, median and the numbers of samples that are not drawn to the right of a row."""
    shares = f"+{decimal_text(pair.larger, digits=0)} % −{decimal_text(pair.smaller, digits=0)} %"
    statistics = f"{shares}\nmedian {pair.median:+.2g}".replace("-", "−")
    not_drawn = {"never fooled": pair.never_fooled, "equal": pair.equal}
    lines = [statistics, *(f"{count} {name}" for name, count in not_drawn.items() if count)]
    axes.text(
        1.02, base + _ROW_FILL / 2, "\n".join(lines),
        ha="left", va="center", size=style.small_pt, linespacing=1.1, transform=axes.get_yaxis_transform(),
    )  # fmt: skip
