"""Budgets and radii at which the tables of a paper state accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.core.budgets import is_close
from gauntlet.reporting.aggregation.budget_grids import attack_grid
from gauntlet.reporting.aggregation.design import ExperimentDesign


def headline_budgets(design: ExperimentDesign, grids: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Return the headline budgets of each norm, ascending: those of the configuration, if any.

    The default is the one budget that most attacks of the norm were run at; of several the middle one, of two middle
    ones the smaller. A norm of certificates alone has none but those of the configuration. `grids` are the budgets at
    which each norm's worst case is stated.
    """
    budgets = {}
    certified = (certificate.norm for certificate in design.certificates if certificate.norm in design.headline)
    for norm in dict.fromkeys((*design.norms, *certified)):
        grid = grids.get(norm, ())
        configured = sorted(design.headline.get(norm, ()))
        if configured:
            budgets[norm] = tuple(measured_budget(value, grid) for value in configured)
        else:
            attacks = design.counted_in(norm) or design.attacks_in(norm)
            run_at = {value: sum(value in attack_grid(attack, grids) for attack in attacks) for value in grid}
            budgets[norm] = (_middle([value for value in grid if run_at[value] == max(run_at.values())]),)
    return budgets


def measured_budget(value: float, grid: Sequence[float]) -> float:
    """Return the budget of a grid that equals `value`, which may be rounded; `value` itself if there is none."""
    nearest = min(grid, key=lambda budget: abs(budget - value), default=value)
    return nearest if is_close(nearest, value) else value


def headline_radii(norm: str, budgets: Mapping[str, Sequence[float]], radii: Sequence[float]) -> tuple[float, ...]:
    """Return the radii of a norm's certificates in the tables: its headline budgets, else the middle one of `radii`."""
    return tuple(budgets.get(norm, ())) or (_middle(sorted(value for value in radii if value > 0) or [0.0]),)


def _middle(values: Sequence[float]) -> float:
    """Return the middle one of ascending values, of two the smaller."""
    return values[(len(values) - 1) // 2]
