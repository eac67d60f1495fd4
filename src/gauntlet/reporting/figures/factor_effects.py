"""Effects of the factors of a grid: differences between levels, and the means of every two factors."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_table
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import ExperimentDesign, FactorDesign, GridDesign, LevelDesign, open_evaluations
from gauntlet.reporting.aggregation.definitions import is_worst_case
from gauntlet.reporting.aggregation.effects import DIFFERENCE, INTERACTION, MEAN
from gauntlet.reporting.figures.effect_panels import DifferencePanel, MeanPanel
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import (
    Style,
    hide_unused,
    legend_above,
    legend_rows,
    note_below,
)
from gauntlet.reporting.footnotes import footnotes
from gauntlet.reporting.formatting import budget_text
from gauntlet.reporting.tables.effect_cells import lacks_seeds, seeds_of_grids

_COLUMNS = 3
_MOST_MAPS = 12
_MOST_WIDTHS = 2.5
"""Maximum half-width of a panel of differences, relative to the largest difference of the grid."""

Row = Mapping[str, Any]
Panel = DifferencePanel | MeanPanel
Outcome = tuple[str, str, str | None, float]
"""Measure, name, norm and budget of an accuracy, as in EFFECTS_SCHEMA."""


@FIGURES.register(
    "factor_effects",
    reads=("effects", "evaluations"),
    needs=("factors",),
    title="Effects of factors",
    caption="Difference of the levels of a factor from its first level in percentage points, over settings of the "
    "other factors that both have, with the 95 % t-interval over training seeds, paired by seed; filled: significant "
    "at 0.05 after Holm's adjustment over all pairs of levels. Maps: mean accuracy in percent at the levels of two "
    "factors, and below it their interaction in percentage points: what both levels change together, less what each "
    "changes alone (bold: significant).",
)
def factor_effects(inputs: FigureInputs, *, style: Style) -> Figure:
    """Draw a panel per factor with every headline accuracy, and a map of the main accuracy per pair of factors.

    The main accuracy is the worst case of the first norm, else the last one that there is.
    """
    rows = read_table(inputs.path("effects")).to_pylist()
    with open_evaluations(inputs.path("evaluations")) as evaluations:
        design = evaluations.design
    titles = {item.name: item.title or item.name for item in design.certificates}
    names = {outcome: _name(outcome, titles) for outcome in dict.fromkeys(map(_outcome, rows))}
    main = next((outcome for outcome in names if is_worst_case(outcome[1])), next(reversed(names), None))
    lines: list[list[Panel]] = []
    left_out = 0
    for grid in design.grids:
        of_grid = [row for row in rows if row["grid"] == grid.name]
        differences = list(_difference_panels(grid, of_grid, list(names)))
        maps = list(_mean_panels(grid, [row for row in of_grid if _outcome(row) == main]))
        left_out += len(maps[_MOST_MAPS:])
        lines += _lines(differences, maps[:_MOST_MAPS])
    columns = max(map(len, lines), default=1)
    wide = columns > 1
    heights = [max(panel.height_in for panel in line) for line in lines] or [1.0]
    legend_in = style.legend_row_in * legend_rows(list(names.values()), style, wide=wide)[1]
    figure, axes = style.figure(
        len(heights),
        columns,
        height_in=sum(heights) + legend_in + 0.25,
        wide=wide,
        gridspec_kw={"height_ratios": heights},
    )
    width_in = (style.two_columns_in if wide else style.one_column_in) / columns
    handles: dict[Any, Any] = {}
    for line, line_axes in zip(lines, axes, strict=False):
        for panel, panel_axes in zip(line, line_axes, strict=False):
            handles |= panel.draw(panel_axes, style, width_in=width_in)
    hide_unused([panel for panel in axes.flat if not panel.has_data()])
    legend_above(figure, {names[outcome]: handle for outcome, handle in handles.items()}, style, wide=wide)
    panels = list(itertools.chain(*lines))
    notes = _notes(rows, names[main] if main else "", panels, left_out, design)
    note_below(figure, _wrapped(notes, style, wide=wide), style, wide=False)
    return figure


def _outcome(row: Row) -> Outcome:
    return row["measure"], row["name"], row["norm"], row["epsilon"]


def _name(outcome: Outcome, titles: Mapping[str, str]) -> str:
    """Return the name of an accuracy in the legend."""
    measure, name, norm, epsilon = outcome
    if norm is None:
        return f"{measure} accuracy"
    text = NORM_TEXT.get(norm, norm)
    if measure == "certified":
        return f"{titles.get(name, name)}, {text}, r = {budget_text(epsilon)}"
    return f"worst case, {text}, ε = {budget_text(epsilon)}"


def _difference_panels(grid: GridDesign, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> Iterator[DifferencePanel]:
    """Yield a panel per factor with at least two levels; all have the same scale."""
    differences = [row for row in rows if row["kind"] == DIFFERENCE]
    for factor in grid.factors:
        of_factor = [row for row in differences if row["factor"] == factor.name]
        present = {row[column] for row in of_factor for column in ("level", "reference")}
        levels = [level for level in factor.levels if level.name in present]
        if len(levels) > 1:
            shown = {(_outcome(row), row["level"]): row for row in of_factor if row["reference"] == levels[0].name}
            yield DifferencePanel(factor.name, tuple(levels), tuple(outcomes), shown, _limit(differences))


def _mean_panels(grid: GridDesign, rows: Sequence[Row]) -> Iterator[MeanPanel]:
    """Yield a panel per pair of factors, each with at least two levels; all have the same colors."""
    means = [row for row in rows if row["kind"] == MEAN and row["other_factor"]]
    known = [row["estimate"] for row in means if row["estimate"] is not None]
    for one, two in itertools.combinations(grid.factors, 2):
        pair = [row for row in rows if (row["factor"], row["other_factor"]) == (one.name, two.name)]
        cells = {(row["level"], row["other_level"]): row for row in pair if row["kind"] == MEAN}
        levels = _present(one, {key[0] for key in cells}), _present(two, {key[1] for key in cells})
        if min(map(len, levels)) > 1:
            interactions = {(row["level"], row["other_level"]): row for row in pair if row["kind"] == INTERACTION}
            limits = min(known, default=0.0), max(known, default=1.0)
            yield MeanPanel((one.name, two.name), levels, cells, interactions, limits)


def _present(factor: FactorDesign, names: Collection[str]) -> tuple[LevelDesign, ...]:
    return tuple(level for level in factor.levels if level.name in names)


def _limit(differences: Sequence[Row]) -> float:
    """Return the largest difference that panels show: wide intervals of few seeds are cut."""
    estimates = [abs(row["estimate"]) for row in differences if row["estimate"] is not None]
    ends = [abs(row[end]) for row in differences for end in ("t_low", "t_high") if row[end] is not None]
    largest = max(estimates, default=0.0) or 0.01
    return float(min(max([largest, *ends]), _MOST_WIDTHS * largest))


def _lines(differences: Sequence[Panel], maps: Sequence[Panel]) -> list[list[Panel]]:
    """Arrange panels in lines: differences before maps, in one line if all fit; no panels are no line."""
    if 0 < len(differences) + len(maps) <= _COLUMNS:
        return [[*differences, *maps]]
    return [list(line) for panels in (differences, maps) for line in _batched(panels)]


def _batched(panels: Sequence[Panel]) -> Iterator[Sequence[Panel]]:
    for start in range(0, len(panels), _COLUMNS):
        yield panels[start : start + _COLUMNS]


def _wrapped(notes: Sequence[str], style: Style, *, wide: bool) -> list[str]:
    """Join notes to lines that fit the figure."""
    width_in = style.two_columns_in if wide else style.one_column_in
    letters = int(width_in * 72 / (style.letter_em * style.small_pt))
    lines: list[str] = []
    for note in notes:
        longer = f"{lines[-1]}   ·   {note}" if lines else note
        if lines and len(longer) <= letters:
            lines[-1] = longer
        else:
            lines.append(note)
    return lines


def _notes(
    rows: Sequence[Row], main: str, panels: Sequence[Panel], left_out: int, design: ExperimentDesign
) -> list[str]:
    """Return the notes on maps, intervals, and what is missing."""
    shown = [row for row in rows if row["kind"] == DIFFERENCE]
    limits = [panel.limit for panel in panels if isinstance(panel, DifferencePanel)]
    ends = [abs(row[end]) for row in shown for end in ("t_low", "t_high") if row[end] is not None]
    notes = [f"maps: {main}"] if any(isinstance(panel, MeanPanel) for panel in panels) else []
    if shown and not ends:
        one_seed = all(row["seeds"] < 2 for row in shown)
        notes.append("one training seed: no intervals" if one_seed else "no intervals: seeds do not differ")
    if ends and max(ends) > max(limits, default=0.0):
        notes.append("intervals beyond the axis are cut")
    if any(row["unmatched"] for row in shown):
        notes.append("the grid does not have all combinations")
    if left_out:
        notes.append(f"{left_out} pairs of factors are not shown")
    seeds = seeds_of_grids(design)
    if any(lacks_seeds(row, seeds) or (row["left_out"] and not row["missing"]) for row in shown):
        notes.append("seeds or settings that a variant lacks are left out")
    settings = max((row["left_out"] for row in shown), default=0)
    left = (
        f"{settings} {'setting' if settings == 1 else 'settings'} or fewer left out" if settings else "seeds left out"
    )
    return [*notes, *footnotes(shown, missing=f"cells are missing: {left}")]
