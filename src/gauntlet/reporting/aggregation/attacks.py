"""Success, cost and optimality of each attack on each model."""

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

`attacked` counts the correctly classified samples, `broken` those of them that the attack fooled at any budget;
`success_rate` is `broken` / `attacked`. `forwards` and `backwards` are sums over samples. `seconds` is the wall time of
the job that wrote the cell, without that of earlier, interrupted attempts; null for cells in shards. `*_per_broken`
divide by `broken` and are null where that is zero. `optimality` is defined by `optimality`.
"""

ATTACKS_VOLATILE = ("seconds", "seconds_per_broken", "version")
"""Run metadata: columns that the digest leaves out."""

_UNITS = 2**40
"""Integers per unit of distance: float sums would depend on the order in which DuckDB's threads finish."""

# The area under a step function that falls by 1/N at each sample's distance is the mean distance, clipped at the bound.
# Rows without an attack are those of all attacks together.
_AREAS = f"""
    WITH sized AS (
        SELECT seed, attack, index, correct, norm,
            CASE WHEN NOT correct THEN 0 WHEN fooled THEN {size_in("$norm")} ELSE 'inf' END::DOUBLE AS distance
        FROM evaluations WHERE variant = $variant AND list_contains($rivals::VARCHAR[], attack) AND {{samples}}
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
        UNION ALL SELECT seed, attack, correct, distance FROM sized
        WHERE norm = $norm AND list_contains($attacks::VARCHAR[], attack)
    )
    SELECT seed, attack, sum((least(distance, bound) * $units)::HUGEINT) AS area,
        count_if(correct) * (any_value(bound) * $units)::HUGEINT AS most
    FROM curves JOIN bounds USING (seed) GROUP BY seed, attack
"""

_SAMPLES_OF = """
    index IN (SELECT index FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack))
"""

_COUNTS = """
    SELECT seed, attack, count(*) AS samples, count(*) FILTER (correct) AS attacked, count(*) FILTER (fooled) AS broken,
        sum(forwards)::BIGINT AS forwards, sum(backwards)::BIGINT AS backwards
    FROM evaluations WHERE variant = $variant GROUP BY seed, attack
"""

Key = tuple[str, int, str]
"""Variant, seed and attack of a cell."""


@dataclass(frozen=True)
class AttackRun:
    """Wall time in seconds of a cell's run, and library and library version of the attack; None where unknown."""

    seconds: float | None = None
    library: str | None = None
    version: str | None = None


def measure_attacks(path: Path, runs: Mapping[Key, AttackRun] | None = None) -> pa.Table:
    """Measure success, cost and optimality of every planned attack on every model: rows of ATTACKS_SCHEMA, as planned.

    `path` is a combined evaluations file; `runs` holds what is known of the cells' runs.

    Raises InputError when the file is missing, damaged or not an evaluations file.
    """
    runs = runs or {}
    rows: list[dict[str, Any]] = []
    with open_evaluations(path) as evaluations:
        design = evaluations.design
        for variant in design.variants:
            counts = {
                (row["seed"], row["attack"]): row for row in evaluations.query(_COUNTS, variant=variant).to_pylist()
            }
            optimalities = optimality(evaluations, variant)
            for seed in design.seeds_of(variant):
                for attack in design.attacks:
                    if variant in attack.without:
                        continue
                    row = _row(attack, counts.get((seed, attack.name)), runs.get((variant, seed, attack.name)))
                    ids = {"experiment": design.experiment, "variant": variant, "seed": seed}
                    rows.append(ids | row | {"optimality": optimalities.get((seed, attack.name))})
    return pa.Table.from_pylist(rows, schema=ATTACKS_SCHEMA)


def optimality(evaluations: Evaluations, variant: str) -> dict[tuple[int, str], float]:
    """Compute the optimality of each attack on a variant's models, at most 1, by (seed, attack).

    Let d be the distance, in the attack's norm, at which an attack fooled a sample (0 if the sample is misclassified,
    infinity if it was not fooled), d* the smallest d of all attacks on the model, and A and A* the areas under the
    shares of samples with d > ε and d* > ε, for ε from 0 to a bound. The optimality is
    1 - (A - A*) / (clean accuracy · bound - A*): 1 for an attack as good as all attacks together, 0 for one that fools
    nothing. All is on the samples of the attack; of attacks on fewer samples than the attack's, none is in d*.

    d is the measured distance, also for bounded attacks, whose examples may be nearer than the ε of the grid. Examples
    of attacks in all norms count for d*, since each has a size in every norm. The bound is the largest distance at
    which the attacks of this norm together fooled a sample, so an attack is compared beyond its own grid with other
    attacks of its norm, but not with attacks of other norms.

    Left out are models that no attack of the norm fooled, and those whose fooled samples are all equally distant, where
    attacks cannot be compared. A sample with an error was not fooled.

    Attacks are compared as configured, whatever they cost; AttackBench gives each the same number of passes.

    Source: Cinà et al. 2024, arXiv:2404.19460; integrated exactly.
    """
    optimalities: dict[tuple[int, str], float] = {}
    design = evaluations.design
    for norm, samples in dict.fromkeys((attack.norm, attack.samples) for attack in design.attacks):
        attacks = [attack.name for attack in design.attacks_in(norm) if attack.samples == samples]
        rivals = [attack.name for attack in design.attacks if _covers(attack.samples, samples)]
        query = _AREAS.format(samples="true" if samples == design.clean_samples else _SAMPLES_OF)
        names = {"attacks": attacks, "rivals": rivals, "norm": norm}
        rows = evaluations.query(query, variant=variant, units=float(_UNITS), **names).to_pylist()
        ensemble = {row["seed"]: row for row in rows if row["attack"] is None}
        for row in rows:
            least, most = (int(ensemble[row["seed"]][end]) for end in ("area", "most"))
            if row["attack"] is not None and most > least:
                optimalities[row["seed"], row["attack"]] = 1 - (int(row["area"]) - least) / (most - least)
    return optimalities


def _covers(samples: int | None, others: int | None) -> bool:
    """Return whether the first `samples` include the first `others`; None is all."""
    return samples is None or (others is not None and samples >= others)


def _row(attack: AttackDesign, counts: Mapping[str, Any] | None, run: AttackRun | None) -> dict[str, Any]:
    run = run or AttackRun()
    ids = {"attack": attack.name, "norm": attack.norm, "library": run.library, "version": run.version}
    if counts is None:
        return ids | {"samples": 0, "attacked": 0, "broken": 0}
    broken = counts["broken"]
    costs = {"forwards": counts["forwards"], "backwards": counts["backwards"], "seconds": run.seconds}
    return {
        **ids,
        **{name: counts[name] for name in ("samples", "attacked", "broken")},
        "success_rate": broken / counts["attacked"] if counts["attacked"] else None,
        **costs,
        **{f"{name}_per_broken": None if not broken or cost is None else cost / broken for name, cost in costs.items()},
    }
