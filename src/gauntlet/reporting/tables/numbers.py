"""Accuracies that no results file states: of clean images, and of attacks repeated with several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gauntlet.reporting.aggregation import Evaluations
from gauntlet.reporting.aggregation.definitions import robust_at
from gauntlet.reporting.aggregation.outcomes import SEEDS
from gauntlet.reporting.stats import seed_effects, wilson_interval

_CLEAN = """
    SELECT seed, count(*) AS samples, count_if(correct) AS right
    FROM (SELECT seed, index, bool_and(correct) AS correct FROM evaluations WHERE variant = $variant GROUP BY ALL)
    GROUP BY seed ORDER BY seed
"""
_REPEATED = f"""
    SELECT seed, attack, count(*) AS samples, count_if({robust_at("$epsilon")}) AS right, count_if(error) AS errors
    FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack)
    GROUP BY ALL ORDER BY ALL
"""

Row = Mapping[str, Any]


def clean_numbers(evaluations: Evaluations, variant: str) -> dict[str, Any]:
    """Compute the clean accuracy of a variant over samples that are correct in the rows of every attack."""
    rows = evaluations.query(_CLEAN, variant=variant).to_pylist()
    is_planned = any(cell[0] == variant for cell in evaluations.design.cells())
    planned = len(evaluations.design.seeds) if is_planned else 0
    return {**_accuracy(rows, 1), "missing": max(planned - len(rows), 0), "errors": 0, "flags": ""}


def repeated_numbers(evaluations: Evaluations, variant: str, first: str, epsilon: float) -> dict[str, Any]:
    """Compute the accuracy of a variant under an attack and its repetitions with other seeds, at one budget.

    The mean and its interval are over the training seeds that have every repetition. It is not the worst case over the
    repetitions, which is part of the worst case of the norm.
    """
    attacks = [attack.name for attack in evaluations.design.attacks if attack.repeats == first]
    rows = evaluations.query(_REPEATED, variant=variant, attacks=attacks, epsilon=epsilon).to_pylist()
    complete = [row for row in rows if sum(row["seed"] == other["seed"] for other in rows) == len(attacks)]
    missing = len(evaluations.design.seeds) * len(attacks) - len(rows)
    errors = sum(row["errors"] for row in complete)
    return {**_accuracy(complete, len(attacks)), "missing": missing, "errors": errors}


def is_repeated(name: str) -> bool:
    """Return whether a column's name is that of an attack with its repetitions."""
    return name.startswith(SEEDS)


def _accuracy(rows: Sequence[Row], attack_seeds: int) -> dict[str, Any]:
    """Turn counts, ordered by training seed and then by attack, into an accuracy with its intervals."""
    if not rows:
        return {"accuracy": None, "seeds": 0, "samples": 0}
    samples, right = (np.asarray([row[key] for row in rows], np.float64) for key in ("samples", "right"))
    effects = seed_effects((right / samples).reshape(-1, attack_seeds))
    low, high = wilson_interval(right.sum(), samples.sum())
    values = {
        "accuracy": effects.mean,
        "t_low": effects.low,
        "t_high": effects.high,
        "wilson_low": low,
        "wilson_high": high,
        "training_std": effects.training_std,
        "attack_std": effects.attack_std,
    }
    numbers = {key: None if np.isnan(value) else float(value) for key, value in values.items()}
    counts = {"seeds": len(rows) // attack_seeds, "attack_seeds": attack_seeds, "samples": int(samples.sum())}
    return {**numbers, **counts}
