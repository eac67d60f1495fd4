"""Numbers that no results file states: of clean images, of attacks repeated with several seeds, and of noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation import Evaluations
from gauntlet.reporting.aggregation.definitions import robust_at
from gauntlet.reporting.aggregation.outcomes import SEEDS
from gauntlet.reporting.aggregation.patterns import Patterns, read_patterns
from gauntlet.reporting.stats import seed_effects, wilson_interval

LOW_CONFIDENCE = 0.5
"""Confidence below which a model counts as unsure (Le 2019, journal of logic-inspired networks: accuracy on noise)."""

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
# Images that are no perturbations never fool; those of misclassified samples were not made.
_UNSURE = f"""
    SELECT seed, attack, count_if(error) AS errors, count_if(status = 'robust') AS samples,
        count_if(status = 'robust' AND adversarial_confidence < {LOW_CONFIDENCE}) AS unsure
    FROM evaluations WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack)
    GROUP BY seed, attack ORDER BY seed, attack
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
    attacks = _repetitions(evaluations, first)
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


def low_confidence_numbers(evaluations: Evaluations, variant: str, first: str) -> dict[str, Any]:
    """Compute the share of an attack's images in which a variant has a confidence below LOW_CONFIDENCE.

    The attack puts its images, such as noise, in place of the samples, so that they have no right class. The mean is
    over the training seeds that have every repetition of the attack, if there are any; the Wilson interval is of one
    model, over the images of all repetitions.
    """
    attacks = _repetitions(evaluations, first)
    cells = evaluations.query(_UNSURE, variant=variant, attacks=attacks).to_pylist()
    measured: dict[int, list[dict[str, Any]]] = {}
    for row in cells:
        measured.setdefault(row["seed"], []).append(row)
    complete = [rows for rows in measured.values() if len(rows) == len(attacks) and all(row["samples"] for row in rows)]
    rows = [row for each in complete for row in each]
    counts = {
        "seeds": len(complete),
        "samples": sum(row["samples"] for row in rows),
        "missing": len(evaluations.design.seeds_of(variant)) * len(attacks) - len(cells),
        "errors": sum(row["errors"] for row in rows),
    }
    if not complete:
        return {"accuracy": None, **counts}
    shares = np.array([[row["unsure"] / row["samples"] for row in each] for each in complete])
    # Each repetition draws its own images, so that those of one model are independent trials.
    unsure, samples = (sum(row[name] for row in complete[0]) for name in ("unsure", "samples"))
    low, high = map(float, wilson_interval(unsure, samples))
    return {"accuracy": float(shares.mean()), "wilson_low": low, "wilson_high": high, **_over_seeds(shares), **counts}


def is_repeated(name: str) -> bool:
    """Return whether a column's name is that of an attack with its repetitions."""
    return name.startswith(SEEDS)


def _repetitions(evaluations: Evaluations, first: str) -> list[str]:
    """Return an attack and those that differ from it only in their seed."""
    return [attack.name for attack in evaluations.design.attacks if attack.repeats == first] or [first]


def _accuracy(patterns: Patterns | None, attack_seeds: int) -> dict[str, Any]:
    """Return an accuracy with its intervals; replicates are ordered by training seed and then by attack seed."""
    if patterns is None:
        return {"accuracy": None, "seeds": 0, "samples": 0}
    counts = patterns.counts()
    return {
        **patterns.accuracy(0).as_row("accuracy"),
        **_over_seeds(patterns.shares(0).reshape(-1, attack_seeds)),
        "seeds": len(counts) // attack_seeds,
        "attack_seeds": attack_seeds,
        "samples": int(counts.sum()),
    }


def _over_seeds(shares: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the interval and standard deviations of shares `(training seeds, attack seeds)`; None where undefined."""
    effects = seed_effects(shares)
    numbers = {
        "t_low": effects.low,
        "t_high": effects.high,
        "training_std": effects.training_std,
        "attack_std": effects.attack_std,
    }
    return {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}
