"""The attack that is shown where a figure has room for one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gauntlet.reporting.aggregation import AttackDesign


def strongest_attack(attacks: Sequence[AttackDesign], summary: Sequence[Mapping[str, Any]]) -> AttackDesign | None:
    """Return the attack with the lowest robust accuracy at its largest budget; None if none was measured.

    Only those of the attacks that are run on the most samples are compared. Bounded attacks come first, since without a
    bound nearly every sample is fooled. Ties are broken by the mean over budgets.
    """
    accuracy: dict[str, tuple[float, float]] = {}
    for attack in attacks:
        rows = [row for row in summary if row["attack"] == attack.name and row["robust_accuracy"] is not None]
        if rows:
            largest = max(row["epsilon"] for row in rows)
            at_largest = fmean(row["robust_accuracy"] for row in rows if row["epsilon"] == largest)
            accuracy[attack.name] = at_largest, fmean(row["robust_accuracy"] for row in rows)
    found = [attack for attack in attacks if attack.name in accuracy]
    most = max((attack.samples or math.inf for attack in found), default=math.inf)
    measured = [attack for attack in found if (attack.samples or math.inf) == most]
    bounded = [attack for attack in measured if attack.epsilons is not None] or measured
    return min(bounded, key=lambda attack: accuracy[attack.name], default=None)
