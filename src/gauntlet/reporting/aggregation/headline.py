"""At which budgets the tables for a paper state accuracies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gauntlet.reporting.aggregation.design import ExperimentDesign

_CLOSE = 1e-3
"""Relative distance below which two budgets are the same one: 0.01 may stand for 0.00999, known in other units."""


def headline_budgets(design: ExperimentDesign, grids: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Give the headline budgets of each norm that is attacked: those that the configuration asks for, ascending.

    Without any, the one budget that most attacks of the norm were run at; of several the middle one, of two middle
    ones the smaller. `grids` are the budgets at which each norm's worst case is stated.
    """
    chosen = {}
    for norm in design.norms:
        grid = grids[norm]
        asked = sorted(design.headline.get(norm, ()))
        if asked:
            near = (min(grid, key=lambda one: abs(one - value)) for value in asked)
            pairs = zip(asked, near, strict=True)
            chosen[norm] = tuple(one if math.isclose(one, value, rel_tol=_CLOSE) else value for value, one in pairs)
        else:
            attacks = [attack for attack in design.attacks_in(norm) if attack.counts]
            having = {value: sum(value in (one.epsilons or grid) for one in attacks) for value in grid}
            chosen[norm] = (middle([value for value in grid if having[value] == max(having.values())]),)
    return chosen


def headline_radii(norm: str, chosen: Mapping[str, Sequence[float]], radii: Sequence[float]) -> tuple[float, ...]:
    """Give the radii of a norm's certificates in the tables: its headline budgets, else the middle one of `radii`."""
    asked = tuple(chosen.get(norm, ()))
    return asked or (middle(sorted(value for value in radii if value > 0) or [0.0]),)


def middle(values: Sequence[float]) -> float:
    """Give the middle one of ascending values, of two the smaller."""
    return values[(len(values) - 1) // 2]
