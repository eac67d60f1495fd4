"""Which attack stands for all where only one can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gauntlet.reporting.aggregation import PlannedAttack


def strongest(attacks: Sequence[PlannedAttack], rows: Sequence[Mapping[str, Any]]) -> list[PlannedAttack]:
    """Choose the attack under which the fewest samples stand, bounded ones first: without a bound most samples fall.

    It is judged at its largest budget; of several that leave as few there, by the mean over its budgets. `rows` are a
    summary's. The list is empty where none of the attacks was measured.
    """
    left: dict[str, tuple[float, float]] = {}
    for attack in attacks:
        mine = [row for row in rows if row["attack"] == attack.name and row["robust_accuracy"] is not None]
        budget = max((row["epsilon"] for row in mine), default=0.0)
        if mine:
            last = fmean(row["robust_accuracy"] for row in mine if row["epsilon"] == budget)
            left[attack.name] = last, fmean(row["robust_accuracy"] for row in mine)
    measured = [attack for attack in attacks if attack.name in left]
    bounded = [attack for attack in measured if attack.epsilons is not None] or measured
    return sorted(bounded, key=lambda attack: left[attack.name])[:1]
