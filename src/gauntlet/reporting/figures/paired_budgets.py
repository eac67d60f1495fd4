"""The budget at which each sample falls, from variant to variant: the same samples, paired."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import Evaluations, open_evaluations
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import PALETTE, Style, norm_label, note_below, plain
from gauntlet.reporting.formatting import budget_text

_LEVELS = 40
_THICKEST_PT = 7.0

# Both variants have the same samples; what either lacks, such as a missing cell, is no pair.
_PAIRS = """
    SELECT one.fooled_at::DOUBLE AS before, other.fooled_at::DOUBLE AS after, count(*) AS samples
    FROM worst_cases AS one JOIN worst_cases AS other USING (norm, seed, index)
    WHERE norm = $norm AND one.variant = $first AND other.variant = $second GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class _Pairs:
    """Samples of two neighbouring variants: the budgets that fooled them, inf where none did, float64 (n,) each."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    samples: NDArray[np.float64]

    def share(self, chosen: NDArray[np.bool_]) -> float:
        """Give the share of the samples that are chosen, in percent."""
        return float(100 * self.samples[chosen].sum() / max(1.0, self.samples.sum()))


@FIGURES.register(
    "paired_budgets",
    reads=("evaluations",),
    needs=("attacks", "several_variants"),
    title="The budget at which each sample falls",
    caption="The smallest ε at which any attack of the norm fooled a sample, from variant to variant: lines join the "
    "same samples, as thick as their share; blue: falls later, dashed orange: falls sooner. Above, the shares of "
    "either. At the foot samples that are wrong without an attack or met an error, at the top those that stand against "
    "every one.",
)
def paired_budgets(inputs: FigureInputs, *, style: Style, most_variants: int = 8) -> Figure:
    """Draw one panel per norm: variants from left to right, budgets from below, lines between the same samples.

    Samples of all seeds are pooled, each paired under its own seed. Measured distances are drawn at one of forty
    levels; who falls sooner is decided before that.
    """
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        shown = list(inputs.variants[:most_variants])
        norms = [
            norm for norm in evaluations.plan.norms if any(one.counts for one in evaluations.plan.attacks_in(norm))
        ]
        found = {norm: [_pairs(evaluations, norm, *two) for two in itertools.pairwise(shown)] for norm in norms}
    wide = len(norms) > 1 or len(shown) > 4
    columns = max(1, min(len(norms), 2 if len(shown) <= 5 else 1)) if wide else 1
    lines = -(-max(1, len(norms)) // columns)
    figure, panels = style.figure(lines, columns, height_in=0.3 + 2.75 * lines, wide=wide)
    room_in = 0.8 * (style.two_columns_in if wide else style.one_column_in) / columns / max(1, len(shown))
    for axes in panels.flat:
        axes.set_axis_off()
    for norm, axes in zip(norms, panels.flat, strict=False):
        _draw(axes, norm, found[norm], inputs.titles_of(shown), style, room_in)
    left_out = f"the first {len(shown)} of {len(inputs.variants)} variants" if len(shown) < len(inputs.variants) else ""
    note_below(
        figure,
        ["solid, +: samples that fall later; dashed, −: sooner; above, their shares", left_out],
        style,
        wide=wide,
    )
    return figure


def _pairs(evaluations: Evaluations, norm: str, first: str, second: str) -> _Pairs:
    table = evaluations.query(_PAIRS, norm=norm, first=first, second=second).to_pydict()
    return _Pairs(*(np.asarray(table[key], dtype=np.float64) for key in ("before", "after", "samples")))


def _draw(axes: Axes, norm: str, pairs: Sequence[_Pairs], titles: Sequence[str], style: Style, room_in: float) -> None:
    budgets = np.concatenate([np.concatenate([one.before, one.after]) for one in pairs])
    budgets = np.unique(budgets[np.isfinite(budgets) & (budgets > 0)])
    scale = _Scale(budgets)
    axes.set_axis_on()
    for place, one in enumerate(pairs):
        _join(axes, place, one, scale, style)
        longer, shorter = one.share(one.after > one.before), one.share(one.after < one.before)
        axes.text(
            place + 0.5, 1.01, f"+{longer:.0f} %\n−{shorter:.0f} %", transform=axes.get_xaxis_transform(),
            ha="center", va="bottom", size=style.small_pt,
        )  # fmt: skip
    for place in range(len(titles)):
        axes.axvline(place, color="#444444", linewidth=0.8, zorder=3)
    axes.set_xlim(-0.12, len(titles) - 0.88)
    axes.set_ylim(-0.06, 1.06)
    ticks = scale.ticks()
    axes.set_yticks([0.0, *(float(scale(np.array([tick]))[0]) for tick in ticks), 1.0])
    axes.set_yticklabels(["wrong", *map(budget_text, ticks), "stands"])
    longest = max(map(len, titles)) * style.letter_em * style.small_pt / 72
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if longest > room_in else {}
    axes.set_xticks(range(len(titles)), [plain(title) for title in titles], **slanted)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(f"Falls at ε in {norm_label(norm)}")


class _Scale:
    """From budgets to heights: 0 at the foot, unbroken samples at the top, the budgets between them, logarithmic."""

    low, high = 0.12, 0.88

    def __init__(self, budgets: NDArray[np.float64]) -> None:
        self.budgets = budgets
        self.ends = (float(budgets[0]), float(budgets[-1])) if len(budgets) else (0.1, 1.0)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Place budgets."""
        first, last = np.log(self.ends)
        with np.errstate(divide="ignore"):
            share = (np.log(values) - first) / (last - first) if last > first else np.where(values > 0, 0.5, values)
        inside = self.low + (self.high - self.low) * np.clip(share, 0, 1)
        return np.select([values <= 0, np.isinf(values)], [0.0, 1.0], inside)

    def level(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Place budgets; where there are many different ones, at the nearest of some levels."""
        heights = self(values)
        if len(self.budgets) <= _LEVELS:
            return heights
        step = (self.high - self.low) / (_LEVELS - 1)
        near = self.low + step * np.round((heights - self.low) / step)
        return np.where((values <= 0) | np.isinf(values), heights, near)

    def ticks(self) -> list[float]:
        """Choose budgets to name: those of a grid, else round ones, as many as there is room for."""
        if len(self.budgets) <= _LEVELS:
            wanted = list(map(float, self.budgets))
        else:
            decades = range(int(np.floor(np.log10(self.ends[0]))), int(np.ceil(np.log10(self.ends[1]))) + 1)
            round_ones = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
            wanted = [value for value in round_ones if self.ends[0] <= value <= self.ends[1]]
        kept: list[float] = []
        heights: list[float] = []
        for value in sorted(wanted, reverse=True):
            height = float(self(np.array([value]))[0])
            if all(abs(height - other) > 0.055 for other in heights):
                kept.append(float(f"{value:.3g}"))
                heights.append(height)
        return kept[::-1]


def _join(axes: Axes, place: int, pairs: _Pairs, scale: _Scale, style: Style) -> None:
    """Draw the lines between two variants; those that are drawn alike are one, as thick as all of them."""
    before, after = scale.level(pairs.before), scale.level(pairs.after)
    moved = np.sign(np.nan_to_num(pairs.after, posinf=1e300) - np.nan_to_num(pairs.before, posinf=1e300))
    looks = ((0, "#999999", "-"), (-1, PALETTE[1], (0, (3, 1.2))), (1, PALETTE[0], "-"))
    total = max(1.0, pairs.samples.sum())
    for sign, color, line in looks:
        chosen = moved == sign
        if not chosen.any():
            continue
        ends, which = np.unique(np.stack([before[chosen], after[chosen]], 1), axis=0, return_inverse=True)
        shares = np.bincount(which.ravel(), weights=pairs.samples[chosen]) / total
        segments = [[(place, left), (place + 1, right)] for left, right in ends]
        widths = style.scale * np.maximum(0.25, _THICKEST_PT * np.sqrt(shares) * (1 if len(ends) < _LEVELS else 0.7))
        lines = LineCollection(segments, colors=color, linewidths=widths, linestyles=[line], alpha=0.55, zorder=2)
        axes.add_collection(lines)
