"""Accuracies that no results file states: of clean images, and of attacks repeated with several seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from gauntlet.reporting.aggregation import Evaluations
from gauntlet.reporting.aggregation.definitions import robust_at
from gauntlet.reporting.aggregation.outcomes import SEEDS
from gauntlet.reporting.aggregation.patterns import Patterns, read_patterns
from gauntlet.reporting.stats import seed_effects

# A sample's replicate is its training seed, or its pair of training seed and attack seed; level 1 is right.
_CLEAN = """
    SELECT 'clean' AS name, index, list_position($seeds::BIGINT[], seed) - 1 AS replicate,
        bool_and(correct)::INT AS level
    FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack) GROUP BY seed, index
"""
_REPEATED = f"""
    SELECT 'repeated' AS name, index, ({robust_at("$epsilon")})::INT AS level,
        (list_position($seeds::BIGINT[], seed) - 1) * len($attacks) + list_position($attacks::VARCHAR[], attack) - 1
        AS replicate
    FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack)
"""
_CELLS = """
    SELECT seed, attack, count_if(error) AS errors
    FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack) GROUP BY ALL
"""


def clean_numbers(evaluations: Evaluations, variant: str) -> dict[str, Any]:
    """Compute the clean accuracy of a variant over samples that are correct in the rows of every attack.

    Attacks on fewer samples than others are left out, so that all seeds are measured on the same samples.
    """
    seeds, attacks = sorted(evaluations.design.seeds), list(evaluations.design.clean_attacks)
    patterns = read_patterns(
        lambda sql: evaluations.query(sql, variant=variant, seeds=seeds, attacks=attacks),
        _CLEAN,
        keys=("name",),
        replicates=len(seeds),
        levels=2,
    ).get(("clean",))
    is_planned = any(name == variant and attack in attacks for name, _, attack in evaluations.design.cells())
    present = 0 if patterns is None else len(patterns.counts())
    missing = max((len(evaluations.design.seeds_of(variant)) if is_planned else 0) - present, 0)
    return {**_accuracy(patterns, 1), "missing": missing, "errors": 0, "flags": ""}


def repeated_numbers(evaluations: Evaluations, variant: str, first: str, epsilon: float) -> dict[str, Any]:
    """Compute the accuracy of a variant under an attack and its repetitions with other seeds, if any, at one budget.

    The mean and its interval are over the training seeds that have every repetition. It is not the worst case over the
    repetitions, which is part of the worst case of the norm.
    """
    attacks = [attack.name for attack in evaluations.design.attacks if attack.repeats == first] or [first]
    cells = evaluations.query(_CELLS, variant=variant, attacks=attacks).to_pylist()
    complete = [
        seed
        for seed in sorted(evaluations.design.seeds_of(variant))
        if sum(row["seed"] == seed for row in cells) == len(attacks)
    ]
    patterns = read_patterns(
        lambda sql: evaluations.query(sql, variant=variant, attacks=attacks, epsilon=epsilon, seeds=complete),
        _REPEATED,
        keys=("name",),
        replicates=len(complete) * len(attacks),
        levels=2,
    ).get(("repeated",))
    missing = len(evaluations.design.seeds_of(variant)) * len(attacks) - len(cells)
    errors = sum(row["errors"] for row in cells if row["seed"] in complete)
    return {**_accuracy(patterns, len(attacks)), "missing": missing, "errors": errors}


def is_repeated(name: str) -> bool:
    """Return whether a column's name is that of an attack with its repetitions."""
    return name.startswith(SEEDS)


def _accuracy(patterns: Patterns | None, attack_seeds: int) -> dict[str, Any]:
    """Return an accuracy with its intervals; replicates are ordered by training seed and then by attack seed."""
    if patterns is None:
        return {"accuracy": None, "seeds": 0, "samples": 0}
    counts = patterns.counts()
    effects = seed_effects(patterns.shares(0).reshape(-1, attack_seeds))
    over_seeds = {
        "t_low": effects.low,
        "t_high": effects.high,
        "training_std": effects.training_std,
        "attack_std": effects.attack_std,
    }
    return {
        **patterns.accuracy(0).as_row("accuracy"),
        **{key: None if np.isnan(value) else float(value) for key, value in over_seeds.items()},
        "seeds": len(counts) // attack_seeds,
        "attack_seeds": attack_seeds,
        "samples": int(counts.sum()),
    }
