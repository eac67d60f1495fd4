"""Training seeds that an experiment needs to show a difference, from the spread of its finished seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.aggregation.comparisons import SIGNIFICANT
from gauntlet.reporting.aggregation.definitions import WORST_CASE
from gauntlet.reporting.aggregation.design import ExperimentDesign
from gauntlet.reporting.aggregation.headline import headline_budgets
from gauntlet.reporting.aggregation.outcomes import CLEAN
from gauntlet.reporting.formatting import budget_text
from gauntlet.reporting.stats.intervals import CONFIDENCE
from gauntlet.reporting.stats.power import seeds_needed, std_upper_limit

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SeedsNeeded:
    """Seeds that show a difference between two variants in one outcome; None where more than 10 000 are needed.

    `std` is the median, over the pairs of variants, of the standard deviation over seeds of their difference, a share
    in [0, 1], and `std_limit` its upper limit at 80 %, since few seeds estimate it badly. `seeds` are finished.

    `needed` is for the median pair without correction, and `needed_by_all` for the pair of largest deviation, with the
    level of significance divided by the number of pairs, which is enough for Holm's correction; each has its value at
    the upper limit.
    """

    outcome: str
    pairs: int
    seeds: int
    std: float
    std_limit: float
    needed: int | None
    needed_at_limit: int | None
    needed_by_all: int | None
    needed_by_all_at_limit: int | None


def plan_seeds(comparisons: pa.Table, design: ExperimentDesign, delta: float) -> list[SeedsNeeded]:
    """Compute the seeds that show a difference of `delta`, a share in (0, 1], for the outcomes of the paper's tables.

    `comparisons` is a table of COMPARISONS_SCHEMA. Outcomes are clean accuracy and each norm's worst case at its
    headline budgets. Pairs with fewer than two seeds, or whose differences are equal in all seeds, say nothing about
    the spread and are left out; so is an outcome without other pairs.
    """
    planned = []
    for outcome, rows in _outcomes(comparisons, design):
        known = [row for row in rows if row["t_p"] is not None]
        if known:
            planned.append(_plan(outcome, known, len(rows), delta))
    return planned


def _plan(outcome: str, known: Sequence[Row], pairs: int, delta: float) -> SeedsNeeded:
    stds = np.array([_std(row) for row in known])
    limits = std_upper_limit(stds, [row["seeds"] for row in known])
    std, limit = float(np.median(stds)), float(np.median(limits))
    corrected = SIGNIFICANT / pairs
    return SeedsNeeded(
        outcome,
        pairs,
        min(row["seeds"] for row in known),
        std,
        limit,
        seeds_needed(std, delta, significance=SIGNIFICANT),
        seeds_needed(limit, delta, significance=SIGNIFICANT),
        seeds_needed(float(stds.max()), delta, significance=corrected),
        seeds_needed(float(limits.max()), delta, significance=corrected),
    )


def _std(row: Row) -> float:
    """Return the standard deviation over seeds that a row's t-interval was computed from."""
    half = (row["t_high"] - row["t_low"]) / 2
    return float(half * np.sqrt(row["seeds"]) / special.stdtrit(row["seeds"] - 1, 0.5 + CONFIDENCE / 2))


def _outcomes(comparisons: pa.Table, design: ExperimentDesign) -> Iterator[tuple[str, list[Row]]]:
    clean = comparisons.filter(pc.equal(comparisons["measure"], CLEAN)).to_pylist()
    if clean:
        yield "clean accuracy", clean
    worst = comparisons.filter(pc.starts_with(comparisons["name"], WORST_CASE)).to_pylist()
    grids: dict[str, set[float]] = {}
    for row in worst:
        grids.setdefault(row["norm"], set()).add(row["epsilon"])
    attacked = replace(design, attacks=tuple(attack for attack in design.attacks if attack.norm in grids))
    budgets = headline_budgets(attacked, {norm: sorted(epsilons) for norm, epsilons in grids.items()})
    for norm, epsilon in ((norm, epsilon) for norm, epsilons in budgets.items() for epsilon in epsilons):
        rows = [row for row in worst if (row["norm"], row["epsilon"]) == (norm, epsilon)]
        if rows:
            yield f"worst case, {NORM_TEXT.get(norm, norm)}, ε = {budget_text(epsilon)}", rows
