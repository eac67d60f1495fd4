"""What each attack achieved on each model and what that cost: success, price per broken sample, optimality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gauntlet.reporting.aggregation.definitions import size_in
from gauntlet.reporting.aggregation.design import AttackDesign
from gauntlet.reporting.aggregation.queries import Evaluations, open_evaluations

ATTACKS_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("samples", pa.int64()),
        ("attacked", pa.int64()),
        ("broken", pa.int64()),
        ("success_rate", pa.float64()),
        ("forwards", pa.int64()),
        ("backwards", pa.int64()),
        ("seconds", pa.float64()),
        ("forwards_per_broken", pa.float64()),
        ("backwards_per_broken", pa.float64()),
        ("seconds_per_broken", pa.float64()),
        ("optimality", pa.float64()),
        ("library", pa.string()),
        ("version", pa.string()),
    ]
)
"""One row per planned variant, seed and attack; a cell that is missing has zero samples and nulls.

`attacked` counts the samples that are classified correctly as they are, `broken` those of them that the attack fooled
at any budget; `success_rate` is their quotient. `forwards` and `backwards` are sums over samples, `seconds` the wall
time of the job that published the cell (null where shards or nobody timed it; what earlier attempts had finished is not
in it). `*_per_broken` divide by `broken` and are null where that is zero. `optimality` is that of `optimality`.
"""

ATTACKS_VOLATILE = ("seconds", "seconds_per_broken", "version")
"""Columns that tell the circumstances of a making, and so decide no digest."""

_UNITS = 2**40
"""Distances are added as integers, in these: sums of floats depend on the order in which DuckDB's threads finish."""

# The area under a step function that falls by 1/N at each sample's distance is the mean of the distances, cut off.
# The rows without an attack are those of all attacks together.
_AREAS = f"""
    WITH sized AS (
        SELECT seed, attack, index, correct, norm,
            CASE WHEN NOT correct THEN 0 WHEN fooled THEN {size_in("$norm")} ELSE 'inf' END::DOUBLE AS distance
        FROM evaluations WHERE variant = $variant
    ),
    nearest AS (
        SELECT seed, bool_and(correct) AS correct, min(distance) AS distance, min(distance) FILTER (norm = $norm) AS own
        FROM sized GROUP BY seed, index
    ),
    bounds AS (
        SELECT seed, coalesce(max(own) FILTER (isfinite(own)), 0) AS bound FROM nearest GROUP BY seed
    ),
    curves AS (
        SELECT seed, NULL AS attack, correct, distance FROM nearest
        UNION ALL SELECT seed, attack, correct, distance FROM sized WHERE norm = $norm
    )
    SELECT seed, attack, sum((least(distance, bound) * $units)::HUGEINT) AS area,
        count_if(correct) * (any_value(bound) * $units)::HUGEINT AS most
    FROM curves JOIN bounds USING (seed) GROUP BY seed, attack
"""

_COUNTS = """
    SELECT seed, attack, count(*) AS samples, count(*) FILTER (correct) AS attacked, count(*) FILTER (fooled) AS broken,
        sum(forwards)::BIGINT AS forwards, sum(backwards)::BIGINT AS backwards
    FROM evaluations WHERE variant = $variant GROUP BY seed, attack
"""

Key = tuple[str, int, str]
"""A cell: variant, seed, attack."""


@dataclass(frozen=True)
class AttackRun:
    """What is known of how a cell was made: wall time in seconds, the library that holds the attack, its version."""

    seconds: float | None = None
    library: str | None = None
    version: str | None = None


def measure_attacks(path: Path, makings: Mapping[Key, AttackRun] | None = None) -> pa.Table:
    """Tell success, cost and optimality of every planned attack on every model: rows of ATTACKS_SCHEMA, as planned.

    `path` is a combined evaluations file; `makings` says how its cells were made, as far as it is known.

    Raises InputError when the file is missing, damaged or no evaluations file.
    """
    known = makings or {}
    rows: list[dict[str, Any]] = []
    with open_evaluations(path) as evaluations:
        design = evaluations.design
        for variant in design.variants:
            counts = {
                (row["seed"], row["attack"]): row for row in evaluations.query(_COUNTS, variant=variant).to_pylist()
            }
            optimal = optimality(evaluations, variant)
            for seed in design.seeds:
                for attack in design.attacks:
                    if variant in attack.without:
                        continue
                    row = _row(attack, counts.get((seed, attack.name)), known.get((variant, seed, attack.name)))
                    ids = {"experiment": design.experiment, "variant": variant, "seed": seed}
                    rows.append(ids | row | {"optimality": optimal.get((seed, attack.name))})
    return pa.Table.from_pylist(rows, schema=ATTACKS_SCHEMA)


def optimality(evaluations: Evaluations, variant: str) -> dict[tuple[int, str], float]:
    """Say how near each attack on a variant's models comes to the best known one: (seed, attack) to at most 1.

    With d the distance, in the attack's norm, at which it fooled a sample (0 if the sample is misclassified as it is,
    infinity if it was not fooled), d* the smallest that any attack on the model found, and A the area under the share
    of samples with d > ε for ε from 0 to a bound, an attack has 1 - (A - A*) / (clean accuracy · bound - A*): 1 if it
    is as good as all attacks together, 0 if it found nothing.

    d is the distance that was measured, also for bounded attacks: the example at hand is a witness, nearer than the ε
    of the grid. Every attack's examples count for d*, whatever norm it was meant for, since they have a size in every
    norm. The bound is the largest distance at which the attacks of this norm together fooled a sample: an attack is
    charged for what others of its norm reach beyond its own grid, not for what attacks of other norms do.

    Left out are models that no attack of the norm fooled, and those where all fooled samples are equally far: nothing
    tells attacks apart there. A sample that went wrong was not fooled.

    Source: Cinà et al. 2024, arXiv:2404.19460; integrated exactly.
    """
    found: dict[tuple[int, str], float] = {}
    for norm in evaluations.design.norms:
        rows = evaluations.query(_AREAS, variant=variant, norm=norm, units=float(_UNITS)).to_pylist()
        best = {row["seed"]: row for row in rows if row["attack"] is None}
        for row in rows:
            least, most = (int(best[row["seed"]][end]) for end in ("area", "most"))
            if row["attack"] is not None and most > least:
                found[row["seed"], row["attack"]] = 1 - (int(row["area"]) - least) / (most - least)
    return found


def _row(attack: AttackDesign, counts: Mapping[str, Any] | None, making: AttackRun | None) -> dict[str, Any]:
    made = making or AttackRun()
    told = {"attack": attack.name, "norm": attack.norm, "library": made.library, "version": made.version}
    if counts is None:
        return told | {"samples": 0, "attacked": 0, "broken": 0}
    broken = counts["broken"]
    costs = {"forwards": counts["forwards"], "backwards": counts["backwards"], "seconds": made.seconds}
    return {
        **told,
        **{name: counts[name] for name in ("samples", "attacked", "broken")},
        "success_rate": broken / counts["attacked"] if counts["attacked"] else None,
        **costs,
        **{f"{name}_per_broken": None if not broken or cost is None else cost / broken for name, cost in costs.items()},
    }
