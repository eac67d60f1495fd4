"""Which attack stands for all where only one can be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gauntlet.aggregation import PlannedAttack


def strongest(attacks: Sequence[PlannedAttack], rows: Sequence[Mapping[str, Any]]) -> list[PlannedAttack]:
    """Choose the attack under which the fewest samples stand, bounded ones first: without a bound most samples fall.

    `rows` are a summary's. The list is empty where none of the attacks was measured.
    """
    left: dict[str, list[float]] = {}
    for attack in attacks:
        mine = [row for row in rows if row["attack"] == attack.name and row["robust_accuracy"] is not None]
        budget = max((row["epsilon"] for row in mine), default=0.0)
        left[attack.name] = [row["robust_accuracy"] for row in mine if row["epsilon"] == budget]
    measured = [attack for attack in attacks if left[attack.name]]
    bounded = [attack for attack in measured if attack.epsilons is not None] or measured
    return sorted(bounded, key=lambda attack: sum(left[attack.name]) / len(left[attack.name]))[:1]
