"""Accuracies with intervals under every attack, and in the worst case over the attacks of each norm."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gauntlet.reporting.aggregation.budget_grids import attack_grid
from gauntlet.reporting.aggregation.definitions import CALIBRATION_ERROR, WORST_CASE, robust_at
from gauntlet.reporting.aggregation.design import losses_together
from gauntlet.reporting.aggregation.patterns import Patterns, read_patterns
from gauntlet.reporting.aggregation.queries import Evaluations, norm_grids, open_evaluations
from gauntlet.robustness.diagnostics.checks import Flags, collect_flags, flags_for, probed_models

SUMMARY_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("epsilon", pa.float64()),
        ("attacks", pa.int64()),
        ("seeds", pa.int64()),
        ("samples", pa.int64()),
        ("clean_accuracy", pa.float64()),
        ("calibration_error", pa.float64()),
        ("robust_accuracy", pa.float64()),
        ("wilson_low", pa.float64()),
        ("wilson_high", pa.float64()),
        ("t_low", pa.float64()),
        ("t_high", pa.float64()),
        ("training_std", pa.float64()),
        ("median_distance", pa.float64()),
        ("errors", pa.int64()),
        ("missing", pa.int64()),
        ("flags", pa.string()),
    ]
)
"""One row per variant, attack and budget; `attack` is "worst:NORM" for the worst case over the attacks of a norm, which
those that do not count have no part in (`design.AttackDesign`); a variant without attacks that count has none.

`robust_accuracy` is the mean over seeds of the share of samples that no budget up to `epsilon` fooled; samples with an
error count as fooled. `wilson_*` bound it over samples, with the effective number of samples where seeds share them
(`stats.shared_samples_interval`), `t_*` over seeds (null with fewer than two or equal ones, possibly beyond 0 and 1),
both at 95 %.
`training_std` is the standard deviation over seeds (null with fewer than two). `clean_accuracy` is the mean over seeds
on the same samples, and so is `calibration_error` (`definitions.CALIBRATION_ERROR`, null without confidences).
`median_distance` is the median size of the adversarial perturbation, in the norm, over samples fooled at any budget; in
the worst case, of the smallest perturbation of each sample. `attacks`, `seeds`, `samples` (rows pooled over seeds) and
`errors` count what is present, `missing` the missing cells; accuracies are null where all are missing. `flags` names
the checks that a model of the variant fails in this norm, joined by commas: the accuracy may be too high. It is empty
where none fails, and null where none is known to fail and a model with results was not probed.
"""

# A row is at level k if it is robust at the k smallest budgets of its attack.
_LEVELS = f"""
    SELECT name, index, list_position($seeds::BIGINT[], seed) - 1 AS replicate,
        len(list_filter(grid, lambda budget: {robust_at("budget")})) AS level
    FROM outcomes JOIN (SELECT unnest($names::VARCHAR[]) AS name, unnest($grids::DOUBLE[][]) AS grid) USING (name)
    WHERE variant = $variant
"""
_COUNTS = """
    SELECT name, seed, count(*) AS samples, count_if(correct) AS clean, count_if(error) AS errors
    FROM outcomes WHERE variant = $variant GROUP BY name, seed ORDER BY name, seed
"""
_CALIBRATION = CALIBRATION_ERROR.format(groups="name, seed", rows="(FROM outcomes WHERE variant = $variant)")
_MEDIANS = "SELECT name, median(distance) AS median FROM outcomes WHERE variant = $variant GROUP BY name"


def summarize(path: Path, *, flags: Flags | None = None, probed: Collection[tuple[str, int]] | None = None) -> pa.Table:
    """Summarize a combined evaluations file: rows of SUMMARY_SCHEMA, in the order of its design, worst cases first.

    `flags` are the failed checks of the diagnostics, None where there are no diagnostics; `probed` are the models that
    were probed, (variant, seed), None for all.

    Raises InputError when the file is missing, damaged or not an evaluations file.
    """
    with open_evaluations(path) as evaluations:
        grids = norm_grids(evaluations)
        budgets = {f"{WORST_CASE}{norm}": grid for norm, grid in grids.items()}
        budgets |= {attack.name: attack_grid(attack, grids) for attack in evaluations.design.attacks}
        rows = [
            row
            | {"flags": None if flags is None else ", ".join(flags_for(flags, variant, row["norm"], losses)) or clear}
            for variant in evaluations.design.variants
            for clear in [_without_flags(evaluations, variant, probed)]
            for row, losses in _variant_rows(evaluations, variant, budgets)
        ]
    return pa.Table.from_pylist(rows, schema=SUMMARY_SCHEMA)


def summarize_diagnosed(path: Path, diagnostics: pa.Table | None) -> pa.Table:
    """Summarize a combined evaluations file with rows of DIAGNOSTICS_SCHEMA, None where there are none."""
    if diagnostics is None:
        return summarize(path)
    return summarize(path, flags=collect_flags(diagnostics), probed=probed_models(diagnostics))


def _without_flags(evaluations: Evaluations, variant: str, probed: Collection[tuple[str, int]] | None) -> str | None:
    """Return the flags of a variant that fails no check: none, or unknown where a model with results was not probed."""
    seeds = evaluations.query("SELECT DISTINCT seed FROM evaluations WHERE variant = $variant", variant=variant)
    unknown = probed is not None and any((variant, seed) not in probed for seed in seeds["seed"].to_pylist())
    return None if unknown else ""


def _variant_rows(
    evaluations: Evaluations, variant: str, budgets: dict[str, tuple[float, ...]]
) -> list[tuple[dict[str, Any], set[str] | None]]:
    """Summarize one variant, so that memory does not grow with the number of variants.

    Each row comes with the losses of its attacks, as `losses_together` returns them.
    """
    design = evaluations.design
    seeds = design.seeds_of(variant)
    cells = evaluations.query("SELECT DISTINCT seed, attack FROM evaluations WHERE variant = $variant", variant=variant)
    present = set(zip(cells["seed"].to_pylist(), cells["attack"].to_pylist(), strict=True))
    measured = _measure(evaluations, variant, budgets)
    rows: list[tuple[dict[str, Any], set[str] | None]] = []
    for norm in design.norms:
        attacks = [attack for attack in design.attacks_in(norm) if variant not in attack.without]
        counted = [attack.name for attack in attacks if attack.counts]
        # A variant that none of these attacks is run on, such as the source of the only transfer, has no worst case.
        groups = {f"{WORST_CASE}{norm}": counted} if counted else {}
        groups |= {attack.name: [attack.name] for attack in attacks}
        for name, members in groups.items():
            counts = {
                "attacks": sum(any((seed, member) in present for seed in seeds) for member in members),
                "missing": sum((seed, member) not in present for seed in seeds for member in members),
            }
            ids = {"experiment": design.experiment, "variant": variant, "attack": name, "norm": norm, **counts}
            losses = losses_together(attack for attack in attacks if attack.name in members)
            rows += [(ids | row, losses) for row in measured.get(name, _unmeasured(budgets[name]))]
    return rows


def _measure(
    evaluations: Evaluations, variant: str, budgets: dict[str, tuple[float, ...]]
) -> dict[str, list[dict[str, Any]]]:
    """Compute the rows of every attack and worst case of one variant that has results, by name."""
    seeds, grids = sorted(evaluations.design.seeds), [list(grid) for grid in budgets.values()]
    counts = evaluations.query(_COUNTS, variant=variant).to_pylist()
    medians = evaluations.query(_MEDIANS, variant=variant).to_pydict()
    calibration = evaluations.query(_CALIBRATION, variant=variant).to_pylist()
    patterns = read_patterns(
        lambda sql: evaluations.query(sql, names=list(budgets), grids=grids, variant=variant, seeds=seeds),
        _LEVELS,
        keys=("name",),
        replicates=len(seeds),
        levels=1 + max(map(len, grids), default=0),
    )
    return {
        name: [
            {"calibration_error": _mean(row["calibration_error"] for row in calibration if row["name"] == name), **row}
            for row in _accuracies(
                patterns[name,], [row for row in counts if row["name"] == name], budgets[name], median
            )
        ]
        for name, median in zip(medians["name"], medians["median"], strict=True)
    }


def _mean(values: Iterable[float]) -> float | None:
    """Return the mean over seeds; None without confidences."""
    found = list(values)
    return float(np.mean(found)) if found else None


def _accuracies(
    patterns: Patterns, counts: Sequence[Mapping[str, Any]], grid: Sequence[float], median: float | None
) -> list[dict[str, Any]]:
    """Return one row per budget; `counts` are those of each seed."""
    shared = {
        "seeds": len(counts),
        "samples": sum(row["samples"] for row in counts),
        "clean_accuracy": float(np.mean([row["clean"] / row["samples"] for row in counts])),
        "median_distance": median,
        "errors": sum(row["errors"] for row in counts),
    }
    return [
        {"epsilon": float(epsilon), **shared, **patterns.accuracy(number).as_row("robust_accuracy")}
        for number, epsilon in enumerate(grid)
    ]


def _unmeasured(grid: Sequence[float]) -> list[dict[str, Any]]:
    """Return the rows of an attack whose cells are all missing."""
    return [{"epsilon": float(epsilon), "seeds": 0, "samples": 0, "errors": 0} for epsilon in grid]
