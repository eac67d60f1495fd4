"""The number of a column that is printed bold, in the tables of a paper and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Candidate(NamedTuple):
    """A variant's number in a column: accuracy (None: not measured), missing cells, and failed checks.

    `flags` is empty where no check failed, and None where the models were not diagnosed.
    """

    accuracy: float | None
    missing: int
    flags: str | None


def best_variant(
    column: Mapping[str, Candidate], comparisons: Iterable[Mapping[str, Any]], *, under_attack: bool
) -> str | None:
    """Return the variant whose number is bold, or None.

    It is significantly above every other variant, both paired by training seed (other trainings would be so too, which
    one seed cannot show) and on the same samples (other test images would show it too); no cell of the column is
    missing; and its number is not in doubt: no check failed, and under attack the models were diagnosed. `comparisons`
    are the rows of COMPARISONS_SCHEMA of this column: over the seeds that two variants share, where the one with the
    higher mean over all of its seeds may be the lower one.
    """
    measured = {variant: one.accuracy for variant, one in column.items() if one.accuracy is not None}
    if len(measured) < 2 or any(candidate.missing for candidate in column.values()):
        return None
    best = max(measured, key=lambda variant: measured[variant])
    if column[best].flags or (under_attack and column[best].flags is None):
        return None
    above = {best}
    for row in comparisons:
        higher, lower = (row["variant"], row["other"])[:: 1 if row["difference"] > 0 else -1]
        if higher == best and row["significant"] and row["t_significant"]:
            above.add(lower)
    return best if set(measured) <= above else None
