"""Budgets at which accuracies are stated: those that attacks were run at, close ones of several attacks once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gauntlet.core.budgets import is_close

if TYPE_CHECKING:
    from gauntlet.reporting.aggregation.design import AttackDesign, ExperimentDesign


def merge_budgets(budgets: Mapping[str, Sequence[float]]) -> dict[float, set[str]]:
    """Map the budgets at which accuracies are stated, ascending, to the attacks that were run there.

    `budgets` are those of each attack. Close ones (`core.budgets.is_close`, such as 8/255 and 0.0314) of several
    attacks are one budget, the largest of them: there the successes of all of them count, whereas at a smaller one the
    successes of some would not. Two budgets of the same attack are never merged.
    """
    run_at: dict[float, set[str]] = {}
    for attack, values in budgets.items():
        for value in values:
            run_at.setdefault(value, set()).add(attack)
    merged: dict[float, set[str]] = {}
    largest = None
    for value in sorted(run_at, reverse=True):
        if largest is not None and is_close(value, largest) and not merged[largest] & run_at[value]:
            merged[largest] |= run_at[value]
        else:
            largest = value
            merged[value] = set(run_at[value])
    return dict(sorted(merged.items()))


def bounded_grid(design: ExperimentDesign, norm: str) -> tuple[float, ...]:
    """Return the budgets of the bounded attacks that count in a norm, ascending; of all of its attacks if none counts.

    Close budgets are merged (`merge_budgets`), also with those of attacks that do not count.
    """
    attacks = design.attacks_in(norm)
    counted = {attack.name for attack in design.counted_in(norm) or attacks}
    budgets = {attack.name: attack.epsilons or () for attack in attacks}
    if norm == "l0":  # numbers of values, which are exact
        return tuple(sorted({value for name in counted for value in budgets[name]}))
    run_at = merge_budgets(budgets)
    return tuple(value for value, names in run_at.items() if names & counted)


def merged_values(design: ExperimentDesign) -> dict[tuple[str, float], float]:
    """Map the attack and budget of rows to the budget that they are stated at, where this is another one."""
    grids = {norm: bounded_grid(design, norm) for norm in design.norms}
    stated = {
        (attack.name, value): stated_budget(value, grids[attack.norm])
        for attack in design.attacks
        for value in attack.epsilons or ()
    }
    return {key: value for key, value in stated.items() if value != key[1]}


def stated_budget(value: float, grid: Sequence[float]) -> float:
    """Return the budget of a norm's grid at which accuracy at `value` is stated; `value` itself if there is none."""
    return min((budget for budget in grid if budget >= value and is_close(budget, value)), default=value)


def attack_grid(attack: AttackDesign, grids: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return the budgets at which an attack's accuracy is stated, ascending: its own, or those of its norm.

    `grids` are the budgets at which each norm's worst case is stated.
    """
    grid = grids[attack.norm]
    return tuple(stated_budget(value, grid) for value in attack.epsilons) if attack.epsilons else tuple(grid)
