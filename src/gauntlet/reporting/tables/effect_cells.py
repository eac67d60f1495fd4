"""Contents of the tables of effects: a row per level of a factor, a column per headline accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gauntlet.reporting.aggregation import ExperimentDesign, FactorDesign, GridDesign
from gauntlet.reporting.aggregation.definitions import is_worst_case
from gauntlet.reporting.aggregation.effects import DIFFERENCE, INTERACTION, MEAN
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import percent_text
from gauntlet.reporting.tables.cells import Column

Row = Mapping[str, Any]

_MOST_NAMED = 8


@dataclass(frozen=True)
class EffectNumber:
    """A mean in percent or a difference in percentage points as text, with ± half its interval and its marks."""

    text: str
    interval: str
    marks: str
    significant: bool

    def __str__(self) -> str:
        return " ".join(filter(None, (self.text, self.interval))) + self.marks


@dataclass(frozen=True)
class EffectLine:
    """A row: the factor or factors, the compared levels, and a number per column, None where there is none."""

    factor: str
    levels: str
    numbers: tuple[EffectNumber | None, ...]

    @property
    def is_significant(self) -> bool:
        """True if any number of the row is significant."""
        return any(number is not None and number.significant for number in self.numbers)


@dataclass(frozen=True)
class EffectTable:
    """The effects in one grid: levels of each factor against its first one, interactions, and notes on both."""

    grid: str
    columns: tuple[Column, ...]
    differences: tuple[EffectLine, ...]
    interactions: tuple[EffectLine, ...]
    notes: tuple[str, ...]


def effect_tables(rows: Sequence[Row], design: ExperimentDesign) -> list[EffectTable]:
    """Arrange rows of EFFECTS_SCHEMA, one table per grid with a factor of two levels, in the order of the design."""
    tables = []
    for grid in design.grids:
        of_grid = [row for row in rows if row["grid"] == grid.name]
        if of_grid:
            columns = tuple(dict.fromkeys(_column(row, design) for row in of_grid))
            found = {(_column(row, design), *_key(row)): row for row in of_grid}
            differences = tuple(_differences(grid, columns, found))
            interactions = tuple(_interactions(grid, columns, found))
            if differences:
                notes = tuple(_notes(of_grid, columns, design))
                tables.append(EffectTable(grid.name, columns, differences, interactions, notes))
    return tables


def seeds_of_grids(design: ExperimentDesign) -> dict[str, int]:
    """Map each grid to the number of seeds that any of its variants has; those of checkpoints may have fewer."""
    return {
        grid.name: len({seed for name in grid.variants if name in design.variants for seed in design.seeds_of(name)})
        for grid in design.grids
    }


def lacks_seeds(row: Row, seeds: Mapping[str, int]) -> bool:
    """Return whether an effect is over fewer seeds than its grid has, `seeds`, though no cell is missing."""
    return row["estimate"] is not None and not row["missing"] and row["seeds"] < seeds.get(row["grid"], 0)


def level_titles(factor: FactorDesign) -> dict[str, str]:
    """Map the names of a factor's levels to their printed names."""
    return {level.name: level.title for level in factor.levels}


def points_text(value: float | None) -> str:
    """Return a difference of shares in percentage points, with its sign; a dash where there is none."""
    # With z, a negative number that is rounded to zero has no minus sign.
    return "–" if value is None else f"{100 * value:+z.1f}"


def half_width_text(row: Row) -> str:
    """Return ± half the width of an interval over seeds, in percentage points; empty without one."""
    return "" if row["t_low"] is None else f"± {percent_text((row['t_high'] - row['t_low']) / 2)}"


def _column(row: Row, design: ExperimentDesign) -> Column:
    certificates = {item.name: item.title or item.name for item in design.certificates}
    title = "worst case" if is_worst_case(row["name"]) else certificates.get(row["name"], str(row["measure"]))
    return Column(row["measure"], row["name"], row["norm"], row["epsilon"], title)


_KEY = ("kind", "factor", "level", "reference", "other_factor", "other_level", "other_reference")


def _key(row: Row) -> tuple[str | None, ...]:
    return tuple(row[name] for name in _KEY)


def _differences(
    grid: GridDesign, columns: Sequence[Column], found: Mapping[tuple[Any, ...], Row]
) -> Iterator[EffectLine]:
    """Yield a row with the means of each factor's first level, and one per other level with its differences."""
    for factor in grid.factors:
        titles = level_titles(factor)
        compared = {key[3]: None for key in found if key[1:3] == (DIFFERENCE, factor.name)}
        referred = {key[4]: None for key in found if key[1:3] == (DIFFERENCE, factor.name)}
        names = [name for name in titles if name in {**compared, **referred}]
        if len(names) < 2:
            continue
        nothing = (None, None, None)
        means = [found.get((column, MEAN, factor.name, names[0], None, *nothing)) for column in columns]
        yield EffectLine(factor.name, titles[names[0]], tuple(_number(row, percent_text) for row in means))
        for name in names[1:]:
            cells = [found.get((column, DIFFERENCE, factor.name, name, names[0], *nothing)) for column in columns]
            yield EffectLine(factor.name, titles[name], tuple(_number(row, points_text) for row in cells))


def _interactions(
    grid: GridDesign, columns: Sequence[Column], found: Mapping[tuple[Any, ...], Row]
) -> Iterator[EffectLine]:
    factors = {factor.name: level_titles(factor) for factor in grid.factors}
    for kind, factor, level, reference, other, other_level, other_reference in dict.fromkeys(key[1:] for key in found):
        if kind == INTERACTION:
            key = kind, factor, level, reference, other, other_level, other_reference
            one, two = factors[factor], factors[other]
            levels = f"{one[level]} − {one[reference]}, {two[other_level]} − {two[other_reference]}"
            numbers = (_number(found.get((column, *key)), points_text) for column in columns)
            yield EffectLine(f"{factor} × {other}", levels, tuple(numbers))


def _number(row: Row | None, text: Any) -> EffectNumber | None:
    if row is None:
        return None
    return EffectNumber(text(row["estimate"]), half_width_text(row), footnote_marks([row]), bool(row["t_significant"]))


def _notes(rows: Sequence[Row], columns: Sequence[Column], design: ExperimentDesign) -> Iterator[str]:
    """Yield the notes on units, settings, intervals, marks and what is missing."""
    yield "Percent at the first level of each factor; other levels: difference from it in percentage points."
    yield "Mean over seeds and over the settings of the other factors that both levels have."
    if any(row["t_low"] is not None for row in rows if row["kind"] != MEAN):
        yield (
            "±: 95 % t-interval over training seeds, paired by seed. Bold: significant at 0.05, t-test paired by seed,"
            " Holm's adjustment over all pairs of levels of the factor, or all interactions of the two factors."
        )
        if any(row["seeds"] > 1 and row["estimate"] is not None and row["t_low"] is None for row in rows):
            yield "Without ±: equal in all seeds, so that nothing is known of the spread."
    elif any(row["seeds"] > 1 for row in rows):
        if any(row["t_low"] is not None for row in rows):
            yield "±: 95 % t-interval over training seeds."
        yield "Differences have no interval and no test: they are equal in all seeds."
    else:
        yield "One training seed: there is no interval and no test over trainings."
    if any(column.is_worst_case for column in columns):
        yield "Worst case: no attack of the norm, of those run, fools the sample within ε."
    yield from _missing_notes(rows, design)
    for text in footnotes(rows, missing="cells are missing: settings or seeds without them are left out"):
        yield f"{text[0].upper()}{text[1:]}."


def _missing_notes(rows: Sequence[Row], design: ExperimentDesign) -> Iterator[str]:
    if incomplete := list(dict.fromkeys(name for row in rows for name in row["incomplete"].split(", ") if name)):
        more = f", and {len(incomplete) - _MOST_NAMED} more" if len(incomplete) > _MOST_NAMED else ""
        yield f"Cells are missing of {', '.join(incomplete[:_MOST_NAMED])}{more}."
    if any(row["left_out"] and not row["missing"] for row in rows):
        yield "Settings in which a variant has fewer seeds than others are left out."
    seeds = seeds_of_grids(design)
    if any(lacks_seeds(row, seeds) for row in rows):
        yield "A seed that fewer than half of the settings have is left out: means differ from those of all seeds."
    if any(row["unmatched"] for row in rows if row["kind"] != MEAN):
        yield (
            "Levels are compared over the settings that the grid has at both, percentages are over those that it has at"
            " all levels of the factor; it does not have all combinations."
        )
    if any(row["estimate"] is None for row in rows):
        yield "–: no setting of the other factors is complete at the levels compared."
