"""Definitions of the reported numbers, as DuckDB SQL over result rows and, where arrays are compared, in NumPy.

Views, summary, comparisons, tables, macros, figures and the page's queries are built from these definitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gauntlet.core.norms import NORMS

WORST_CASE = "worst:"
"""Prefix of a norm: the name of the worst case over the attacks of that norm."""


Row = TypeVar("Row", bound=Mapping[str, Any])


def is_worst_case(name: str) -> bool:
    """Return whether a name in the column `attack` is a worst case over the attacks of a norm."""
    return name.startswith(WORST_CASE)


def prefer_worst_cases(rows: Iterable[Row]) -> list[Row]:
    """Return the summary rows of worst cases; without any, all rows."""
    listed = list(rows)
    return [row for row in listed if is_worst_case(row["attack"])] or listed


def planned_seeds(rows: Iterable[Row]) -> dict[str, int]:
    """Map each variant of summary rows to the number of its planned training seeds."""
    planned: dict[str, int] = {}
    for row in rows:
        if not is_worst_case(row["attack"]):  # these count the cells of several attacks
            planned[row["variant"]] = max(planned.get(row["variant"], 0), row["seeds"] + row["missing"])
    return planned


CORRECT = "clean_prediction = label"
"""The model classifies the unperturbed image correctly; otherwise the sample is already wrong."""

CALIBRATION_BINS = 15

CALIBRATION_ERROR = f"""
    SELECT {{groups}}, sum(abs(hits - confidence)) / sum(samples)::DOUBLE AS calibration_error FROM (
        SELECT {{groups}}, count(*) AS samples, count_if(correct) AS hits,
            sum((clean_confidence::DOUBLE * {2**30})::BIGINT)::DOUBLE / {2**30} AS confidence
        FROM {{rows}} WHERE clean_confidence IS NOT NULL
        GROUP BY {{groups}}, greatest(ceil(clean_confidence::DOUBLE * {CALIBRATION_BINS})::INT, 1)
    ) GROUP BY {{groups}} ORDER BY {{groups}}
"""
"""Expected calibration error of the clean predictions by group, as SQL: the mean over samples of |share correct - mean
confidence| in 15 bins of equal width, each without its lower end (Guo et al. 2017, arXiv:1706.04599, equation 3).

Confidences are added as multiples of 2^-30, so that the sum does not depend on the order of the rows.
"""

ERROR = "status = 'error'"
"""The attack raised an error on the sample."""

FOOLED = "status = 'adversarial'"
"""The attack fooled the model on a correctly classified sample, at any budget."""

CERTIFIED = "status = 'certified'"
"""The certificate holds for the correct class."""

FOOLED_AT = "CASE WHEN status = 'error' THEN 0 WHEN epsilon IS NULL THEN 'inf' ELSE epsilon END"
"""Smallest budget at which a sample counts as fooled: 0 if it is already wrong or met an error, infinity if never.

An attack that raised an error may have missed an adversarial example, so an error never counts as robust.
"""


def robust_at(epsilon: str, fooled_at: str = "fooled_at") -> str:
    """Return the SQL condition that a sample is robust at a budget, given as SQL.

    `fooled_at` is the column of a view, or FOOLED_AT for the rows of a file.
    """
    return f"{fooled_at} > {epsilon}"


def is_robust(fooled_at: NDArray[np.float64], epsilon: float) -> NDArray[np.bool_]:
    """Return which samples are robust at a budget: `robust_at` for arrays."""
    return np.asarray(fooled_at > epsilon)


def certified_at(radius: str) -> str:
    """Return the SQL condition that a sample is certified at a radius, given as SQL.

    A row's radius is rounded down, and is compared with the radius as it is stated, both as float64.
    """
    return f"{CERTIFIED} AND radius >= {radius}::DOUBLE"


def is_certified(radii: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Return which samples are certified at a radius: `certified_at` for arrays; negative where not certified."""
    return np.asarray(radii >= radius)


def size_in(norm: str) -> str:
    """Return the SQL value of a row's perturbation size in a norm, given as SQL."""
    cases = " ".join(f"WHEN '{name}' THEN {name}" for name in NORMS)
    return f"CASE {norm} {cases} END"


DISTANCE = f"CASE WHEN {FOOLED} THEN {size_in('norm')} END"
"""Size of the adversarial perturbation in the attack's norm; null unless the attack fooled the model."""


def counts_in(uncounted: Iterable[str]) -> str:
    """Return the SQL condition that an attack counts in the worst case.

    `uncounted` names the attacks whose images are not perturbations of the samples, such as `rubbish`, or that are run
    on some of the samples only.
    """
    names = ", ".join(map(quoted, uncounted))
    return f"attack NOT IN ({names})" if names else "true"


def worst_case_rows(norm: str, uncounted: Iterable[str]) -> str:
    """Return the SQL condition that a row belongs to the worst case over the attacks of a norm, given as SQL."""
    return f"norm = {norm} AND {counts_in(uncounted)}".removesuffix(" AND true")


def quoted(name: object) -> str:
    """Return a string as an SQL literal."""
    return "'" + str(name).replace("'", "''") + "'"


def accuracy_query(condition: str, *, rows: str, where: str) -> str:
    """Return the query for an accuracy in percent: the mean over seeds of the share of samples.

    A sample counts if every selected row of it fulfills `condition`, so over several attacks this is the worst case.
    """
    return (
        "SELECT 100 * avg(share) FROM (\n"
        "  SELECT seed, avg(holds::INT) AS share FROM (\n"
        f"    SELECT seed, index, bool_and({condition}) AS holds\n"
        f"    FROM {rows} WHERE {where} GROUP BY seed, index)\n"
        "  GROUP BY seed)"
    )
