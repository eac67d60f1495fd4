"""Verdicts of the checks of gradient masking on every variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import Style, norm_label, note_below, plain
from gauntlet.robustness.diagnostics.checks import CHECKS, worst_verdict

_ROW_IN = 0.19
_COLUMN_IN = 0.34
_MOST_COLUMNS = 30
"""Number of variants up to which their names fit next to each other."""

_MOST_ROWS_IN, _LEAST_ROW_IN = 8.0, 0.115
"""Height of all variants in rows, and the least height of one whose name can be read."""


@dataclass(frozen=True)
class _VerdictStyle:
    """A verdict's mark and colors, which differ in lightness too, and its word in the legend."""

    mark: str
    background: str
    color: str
    word: str


_VERDICTS = {
    "pass": _VerdictStyle("✓", "#dbe9f4", "#1f4e79", "passes"),
    "warn": _VerdictStyle("!", "#e9a94b", "#000000", "warns"),
    "fail": _VerdictStyle("✗", "#8c2d04", "#ffffff", "fails"),
    "not_enough_samples": _VerdictStyle("?", "#eeeeee", "#333333", "has too few samples"),
    "not_applicable": _VerdictStyle("·", "#ffffff", "#777777", "does not apply"),
}


@FIGURES.register(
    "diagnostics_matrix",
    reads=("diagnostics",),
    needs=("attacks",),
    shows_all=True,
    title="Checks of gradient masking",
    caption="The verdict of every check on every variant, the worst over its seeds. Where a check fails, robust "
    "accuracies in the norm are only upper bounds. Checks that apply to no variant are counted below.",
)
def diagnostics_matrix(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw one row per check and norm, and one column per variant, with marks and colors; many variants are rows."""
    rows = read_table(inputs.path("diagnostics")).to_pylist()
    verdicts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        verdicts.setdefault((row["check"], row["norm"] or ""), {}).setdefault(row["variant"], []).append(row["verdict"])
    worst_verdicts = {
        key: {variant: str(worst_verdict(of_seeds)) for variant, of_seeds in by_variant.items()}
        for key, by_variant in sorted(verdicts.items(), key=lambda item: list(CHECKS).index(item[0][0]))
    }
    applicable = {
        key: by_variant for key, by_variant in worst_verdicts.items() if set(by_variant.values()) != {"not_applicable"}
    }
    names = [f"{check.replace('_', ' ')}{f', {norm_label(norm)}' if norm else ''}" for check, norm in applicable]
    label_in = (
        style.letter_em * style.small_pt / 72 * max((len(name.partition("$")[0]) + 2 for name in names), default=0)
    )
    titles = inputs.titles_of()
    in_rows = len(titles) > _MOST_COLUMNS
    wide = not in_rows and label_in + _COLUMN_IN * len(titles) > 0.95 * style.one_column_in
    if in_rows:
        row_in = max(_LEAST_ROW_IN, min(_ROW_IN, _MOST_ROWS_IN / len(titles)))
        height = 0.5 + row_in * len(titles) + label_in / style.scale
    else:
        row_in = _ROW_IN
        titles_in = style.letter_em * style.small_pt / 72 / style.scale * max(map(len, titles))
        height = 0.5 + _ROW_IN * max(1, len(applicable)) + titles_in
    figure, panels = style.figure(1, 1, height_in=height, wide=wide)
    axes: Axes = panels[0][0]
    size_pt = min(style.font_pt, 0.8 * 72 * style.scale * row_in)
    for check, by_variant in enumerate(applicable.values()):
        for number, variant in enumerate(inputs.variants):
            x, y = (check, number) if in_rows else (number, check)
            _draw(axes, x, y, _VERDICTS[by_variant.get(variant, "not_applicable")], size_pt)
    titles = [plain(title) for title in titles]
    _frame(axes, *((titles, names) if in_rows else (names, titles)))
    axes.tick_params(axis="y", labelsize=min(style.small_pt, size_pt))
    checks = {check for check, _ in worst_verdicts}
    unused = checks - {check for check, _ in applicable}
    present = {verdict for by_variant in applicable.values() for verdict in by_variant.values()}
    legend = "   ".join(f"{look.mark} {look.word}" for verdict, look in _VERDICTS.items() if verdict in present)
    not_drawn = f"{len(unused)} of {len(checks)} checks apply to no variant" if unused else ""
    note_below(figure, [legend, not_drawn], style, wide=wide)
    return figure


def _draw(axes: Axes, column: int, row: int, look: _VerdictStyle, size_pt: float) -> None:
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=look.background, edgecolor="white", linewidth=1))
    axes.text(column, row, look.mark, ha="center", va="center", color=look.color, size=size_pt, weight="bold")


def _frame(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, max(1, len(columns)) - 0.5)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    # A slanted name over the last column would reach beyond the edge of the figure.
    axes.set_xticks(range(len(columns)), columns, rotation=90)
