"""Labels of the rows of a table: the printed name of each variant, or its level of each factor where there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gauntlet.reporting.aggregation import ExperimentDesign

MOST_NAMED = 8
"""Number of variants up to which rows have names alone."""

_ABSENT = "–"


@dataclass(frozen=True)
class RowLabels:
    """Headings of the columns of labels, and the labels of each variant, one per heading."""

    heads: tuple[str, ...]
    of: Mapping[str, tuple[str, ...]]

    @property
    def are_factors(self) -> bool:
        """True if the labels are levels of factors."""
        return len(self.heads) > 1


def row_labels(design: ExperimentDesign) -> RowLabels:
    """Return the level of each factor for more than eight variants with grids, else the name of each variant.

    Factors with one level have no column. A variant of no grid has its name in the first column. Two grids that would
    have equal rows have names.
    """
    names = {variant: (design.titles.get(variant, variant),) for variant in design.variants}
    plain = RowLabels(("",), names)
    factors = _factors(design)
    if len(design.variants) <= MOST_NAMED or len(factors) < 2:
        return plain
    labels: dict[str, tuple[str, ...]] = {}
    for variant in design.variants:
        levels = _levels(design, variant)
        empty = ("",) * (len(factors) - 1)
        labels[variant] = tuple(levels.get(factor, "") for factor in factors) if levels else (*names[variant], *empty)
    return RowLabels(tuple(factors), labels) if len(set(labels.values())) == len(labels) else plain


def without_repeats(labels: Sequence[str], above: Sequence[str] | None) -> tuple[str, ...]:
    """Return the labels of a row, with those of its first factors empty that the row above has too."""
    shared = 0
    while above is not None and shared < len(labels) - 1 and labels[shared] == above[shared]:
        shared += 1
    return ("",) * shared + tuple(labels[shared:])


def _factors(design: ExperimentDesign) -> list[str]:
    """List the factors of all grids of which the variants have several levels."""
    found: dict[str, set[str]] = {}
    for variant in design.variants:
        for factor, level in _levels(design, variant).items():
            found.setdefault(factor, set()).add(level)
    return [factor for factor, levels in found.items() if len(levels) > 1]


def _levels(design: ExperimentDesign, variant: str) -> dict[str, str]:
    """Return the printed level of each factor of a variant's grid, a dash where the factor does not exist for it."""
    for grid in design.grids:
        if variant in grid.variants:
            return {
                factor.name: _ABSENT if number < 0 else factor.levels[number].title
                for factor, number in zip(grid.factors, grid.variants[variant], strict=True)
            }
    return {}
