"""Facets: panels for the levels of one or two factors of a grid; the other factors are colors, dashes and markers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gauntlet.reporting.aggregation import FactorDesign, GridDesign
from gauntlet.reporting.figures.style import PALETTE

MOST_LINES = 8
"""Number of variants up to which lines in one panel can be distinguished."""

_MOST_LINES_IN_A_FACET = 24
"""Number of lines in a facet from which on a choice of variants is easier to read."""

_MOST_FACETS, _MOST_COLUMNS = 16, 6
_MOST_ALONE = 3
"""Number of variants of no grid that are drawn in every facet, for comparison."""

_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_GRAYS = ("#000000", "#666666", "#999999")

Place = tuple[int, int]


@dataclass(frozen=True)
class Facets:
    """Labels of the rows and columns of facets, and the row and column of each variant: None for all facets.

    `looks` has color, dashes and marker of each variant; `legend` those of each level that they show.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    places: Mapping[str, Place | None]
    looks: Mapping[str, dict[str, Any]]
    legend: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class _Factor:
    """A factor with the levels that the variants to draw have, by their numbers, and the level of each variant."""

    name: str
    levels: tuple[int, ...]
    titles: Mapping[int, str]
    level_of: Mapping[str, int]

    def label(self, level: int) -> str:
        return f"{self.name}: {self.titles[level]}"


def find_facets(
    variants: Sequence[str], titles: Mapping[str, str], grids: Sequence[GridDesign], named: Sequence[str] = ()
) -> Facets | None:
    """Choose one or two factors for the facets of variants; None if no choice makes them readable.

    The choice is `named` if the variants have several levels of these factors.
    Of all choices with at most 16 facets it is the one with the fewest facets that have at most eight lines each; if
    there is none, the one with the fewest lines. Up to three variants of no grid are in every facet. Variants of
    several grids have no facets, for their factors differ.
    """
    used = [grid for grid in grids if any(name in grid.variants for name in variants)]
    if len(used) != 1:
        return None
    members = [name for name in variants if name in used[0].variants]
    alone = [name for name in variants if name not in used[0].variants]
    factors = [factor for factor in _factors(used[0], members) if len(factor.levels) > 1]
    by_name = {factor.name: factor for factor in factors}
    choices = [choice for count in (1, 2) for choice in itertools.combinations(factors, count) if _fits(choice)]
    is_named = bool(named) and all(name in by_name for name in named)
    if is_named:
        choices = [tuple(by_name[name] for name in named)]
    if not choices or len(alone) > _MOST_ALONE:
        return None
    chosen = min(choices, key=lambda choice: _badness(choice, members))
    if not is_named and _most_lines(chosen, members) > _MOST_LINES_IN_A_FACET:
        return None
    rows, columns = _rows_and_columns(chosen)
    others = [factor for factor in factors if factor not in chosen]
    looks, legend = _looks(others, members)
    for number, name in enumerate(alone):
        looks[name] = legend[titles.get(name, name)] = {
            "color": _GRAYS[number],
            "linestyle": "-",
            "marker": "",
        }
    places: dict[str, Place | None] = dict.fromkeys(alone)
    for name in members:
        row = rows.levels.index(rows.level_of[name]) if rows else 0
        places[name] = row, columns.levels.index(columns.level_of[name])
    labels = tuple(map(rows.label, rows.levels)) if rows else ("",)
    return Facets(labels, tuple(map(columns.label, columns.levels)), places, looks, legend)


def _factors(grid: GridDesign, members: Sequence[str]) -> Iterator[_Factor]:
    for number, factor in enumerate(grid.factors):
        level_of = {name: grid.variants[name][number] for name in members}
        present = sorted(set(level_of.values()))
        yield _Factor(factor.name, tuple(present), {level: _title(factor, level) for level in present}, level_of)


def _title(factor: FactorDesign, level: int) -> str:
    """Return the printed name of a level; a dash where the factor does not exist."""
    return "–" if level < 0 else factor.levels[level].title


def _fits(choice: Sequence[_Factor]) -> bool:
    sizes = sorted(len(factor.levels) for factor in choice)
    return sizes[-1] <= _MOST_COLUMNS and (len(sizes) == 1 or sizes[0] * sizes[1] <= _MOST_FACETS)


def _rows_and_columns(choice: Sequence[_Factor]) -> tuple[_Factor | None, _Factor]:
    """Put the factor with more levels into columns."""
    if len(choice) == 1:
        return None, choice[0]
    one, two = choice
    return (two, one) if len(one.levels) > len(two.levels) else (one, two)


def _most_lines(choice: Sequence[_Factor], members: Sequence[str]) -> int:
    return max(Counter(tuple(factor.level_of[name] for factor in choice) for name in members).values())


def _badness(choice: Sequence[_Factor], members: Sequence[str]) -> tuple[int, int]:
    facets = 1
    for factor in choice:
        facets *= len(factor.levels)
    lines = _most_lines(choice, members)
    return (lines, facets) if lines > MOST_LINES else (0, facets)


def _looks(
    others: Sequence[_Factor], members: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the looks of variants and of levels: most levels in colors, then dashes, then markers.

    Factors beyond the third have no look of their own.
    """
    looks: dict[str, dict[str, Any]] = {name: {"color": PALETTE[0], "linestyle": "-", "marker": ""} for name in members}
    legend: dict[str, dict[str, Any]] = {}
    ranked = sorted(others, key=lambda factor: -len(factor.levels))
    for factor, key, values in zip(
        ranked, ("color", "linestyle", "marker"), (PALETTE, _DASHES, _MARKERS), strict=False
    ):
        plain_line = {"color": "#444444", "linestyle": "" if key == "marker" else "-", "marker": ""}
        for number, level in enumerate(factor.levels):
            value = values[number % len(values)]
            legend[factor.label(level)] = {**plain_line, key: value}
            for name in members:
                if factor.level_of[name] == level:
                    looks[name][key] = value
    return looks, legend
