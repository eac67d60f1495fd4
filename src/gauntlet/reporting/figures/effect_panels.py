"""Panels of the effects of factors: differences between the levels of one factor, and means of two factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from gauntlet.reporting.aggregation import LevelDesign
from gauntlet.reporting.figures.labels import shorten
from gauntlet.reporting.figures.style import Style, line_style, plain
from gauntlet.reporting.figures.text_widths import text_width_in
from gauntlet.reporting.footnotes import footnote_marks
from gauntlet.reporting.formatting import percent_text
from gauntlet.reporting.tables.effect_cells import points_text

Row = Mapping[str, Any]

_LABEL_SHARE = 0.34
"""Maximum share of a panel's width that the names of its levels take."""

_AXES_SHARE = 0.6
"""Minimum share of a panel's width that its axes have."""

_REFERENCE = -0.75
"""Position of the first level, above the others."""

_DARK = 0.47


@dataclass(frozen=True)
class DifferencePanel:
    """Differences of the levels of a factor from the first of `levels`: `rows` of EFFECTS_SCHEMA by outcome and level.

    `limit` is the largest difference that the axis shows.
    """

    factor: str
    levels: tuple[LevelDesign, ...]
    outcomes: tuple[Any, ...]
    rows: Mapping[tuple[Any, str], Row]
    limit: float

    @property
    def height_in(self) -> float:
        """The height of the panel on paper."""
        return 0.85 + (len(self.levels) - 1) * (0.12 + 0.09 * len(self.outcomes))

    def draw(self, axes: Axes, style: Style, *, width_in: float) -> dict[Any, Any]:
        """Draw a mark and an interval per level and outcome, and return a handle for each outcome."""
        handles: dict[Any, Any] = {}
        step = 0.8 / len(self.outcomes)
        for number, outcome in enumerate(self.outcomes):
            look = line_style(self.outcomes, outcome)
            for position, level in enumerate(self.levels[1:]):
                row = self.rows.get((outcome, level.name))
                if row is None or row["estimate"] is None:
                    continue
                y = position + (number - (len(self.outcomes) - 1) / 2) * step
                if row["t_low"] is not None:
                    ends = [100 * row["t_low"], 100 * row["t_high"]]
                    axes.plot(ends, [y, y], color=look["color"], linewidth=0.7 * style.line_pt, zorder=2)
                face = look["color"] if row["t_significant"] else "white"
                mark = {"marker": look["marker"], "color": look["color"], "linestyle": ""}
                axes.plot(100 * row["estimate"], y, **mark, markerfacecolor=face, zorder=3)
                if marks := footnote_marks([row]):
                    axes.annotate(marks, (100 * row["estimate"], y), (4, 0), textcoords="offset points", va="center")
                handles[outcome] = Line2D([], [], **mark)
        axes.axvline(0, color="#444444", linewidth=0.8, zorder=1)
        axes.set_xlim(-108 * self.limit, 108 * self.limit)
        axes.set_ylim(len(self.levels) - 1.45, -1.05)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.plot(0, _REFERENCE, "o", color="#444444", markersize=2.5 * style.scale, zorder=3)
        axes.set_yticks([_REFERENCE, *range(len(self.levels) - 1)], _names(self.levels, style, width_in))
        axes.set_title(plain(shorten(self.factor, width_in=_AXES_SHARE * width_in, size_pt=style.font_pt)), loc="left")
        axes.set_xlabel("Difference (points)")
        return handles


@dataclass(frozen=True)
class MeanPanel:
    """Mean accuracy at pairs of levels of two factors, and their interactions: rows of EFFECTS_SCHEMA by both levels.

    `limits` are the accuracies of the first and the last color.
    """

    factors: tuple[str, str]
    levels: tuple[tuple[LevelDesign, ...], tuple[LevelDesign, ...]]
    cells: Mapping[tuple[str, str], Row]
    interactions: Mapping[tuple[str, str], Row]
    limits: tuple[float, float]

    @property
    def height_in(self) -> float:
        """The height of the panel on paper."""
        return 1.0 + 0.29 * len(self.levels[0])

    def draw(self, axes: Axes, style: Style, *, width_in: float) -> dict[Any, Any]:
        """Draw a field per pair of levels, empty where the grid has none; return no handles."""
        rows, columns = self.levels
        fields = [[self.cells.get((one.name, two.name)) for two in columns] for one in rows]
        values = np.array([[_estimate(row) for row in line] for line in fields])
        low, high = self.limits
        axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        label_in = min(_LABEL_SHARE * width_in, _widest_in(rows, style))
        size_pt = min(style.small_pt, 72 * (0.86 * width_in - label_in) / len(columns) / (6 * style.letter_em))
        for (y, x), value in np.ndenumerate(values):
            row = fields[y][x]
            if row is None:
                continue
            dark = (value - low) / max(high - low, 1e-9) < _DARK
            color = "white" if dark and not np.isnan(value) else "black"
            ink: dict[str, Any] = {"ha": "center", "size": size_pt, "color": color}
            mean = percent_text(None if np.isnan(value) else value)
            interaction = self.interactions.get((rows[y].name, columns[x].name))
            known = interaction is not None and interaction["estimate"] is not None
            axes.text(x, y, mean + footnote_marks([{**row, "missing": 0}]), va="bottom" if known else "center", **ink)
            if interaction is not None and known:
                weight = "bold" if interaction["t_significant"] else "normal"
                axes.text(x, y, points_text(interaction["estimate"]).replace("-", "−"), va="top", weight=weight, **ink)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_yticks(range(len(rows)), _names(rows, style, width_in))
        slanted = _widest_in(columns, style) > 0.9 * (0.86 * width_in - label_in) / len(columns)
        turn: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks(range(len(columns)), _names(columns, style, width_in), **turn)
        for boundary in range(1, len(columns)):
            axes.axvline(boundary - 0.5, color="white", linewidth=1)
        for boundary in range(1, len(rows)):
            axes.axhline(boundary - 0.5, color="white", linewidth=1)
        vertical, horizontal = (
            plain(shorten(factor, width_in=_AXES_SHARE * width_in, size_pt=style.font_pt)) for factor in self.factors
        )
        axes.set_ylabel(vertical)
        axes.set_xlabel(horizontal)
        return {}


def _estimate(row: Row | None) -> float:
    return np.nan if row is None or row["estimate"] is None else float(row["estimate"])


def _names(levels: Sequence[LevelDesign], style: Style, width_in: float) -> list[str]:
    """Return the printed names of levels, cut to their share of the panel's width."""
    return [plain(shorten(level.title, width_in=_LABEL_SHARE * width_in, size_pt=style.small_pt)) for level in levels]


def _widest_in(levels: Sequence[LevelDesign], style: Style) -> float:
    return max(text_width_in(plain(level.title), style.small_pt) for level in levels)
