"""Headline accuracies of every variant and training seed: clean, worst case of each norm, certified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.definitions import WORST_CASE, certified_at, robust_at
from gauntlet.reporting.aggregation.headline import headline_budgets, headline_radii
from gauntlet.reporting.aggregation.outcomes import CLEAN
from gauntlet.reporting.aggregation.queries import Evaluations, norm_grids

_CELLS = "SELECT DISTINCT seed, attack FROM evaluations WHERE variant = $variant"
_CLEAN = """
    SELECT seed, avg(correct) AS accuracy FROM (
        SELECT seed, bool_and(correct)::INT AS correct FROM evaluations
        WHERE variant = $variant AND list_contains($attacks::VARCHAR[], attack) GROUP BY seed, index
    ) GROUP BY seed
"""
_WORST = f"""
    SELECT norm, budget, seed, avg(({robust_at("budget")})::INT) AS accuracy
    FROM worst_cases JOIN (SELECT unnest($norms::VARCHAR[]) AS norm, unnest($budgets::DOUBLE[]) AS budget) USING (norm)
    WHERE variant = $variant GROUP BY ALL
"""
_CERTIFIED = f"""
    SELECT variant, certificate, radius_shown, seed, avg(({certified_at("radius_shown")})::INT) AS accuracy
    FROM read_parquet($path, hive_partitioning = false)
    JOIN (SELECT unnest($names::VARCHAR[]) AS certificate, unnest($radii::DOUBLE[]) AS radius_shown) USING (certificate)
    GROUP BY ALL
"""


@dataclass(frozen=True)
class HeadlineOutcome:
    """An accuracy of the tables: `measure`, `name`, `norm` and `epsilon` are as in COMPARISONS_SCHEMA.

    `values`, float64 (variants, seeds) in the order of the design, are shares in [0, 1]: NaN where a cell is missing,
    for a worst case also where only one of its attacks is.
    """

    measure: str
    name: str
    norm: str | None
    epsilon: float
    values: NDArray[np.float64]


def read_headline_outcomes(
    evaluations: Evaluations, certificates: Path | None, certified: pa.Table
) -> Iterator[HeadlineOutcome]:
    """Yield clean accuracy, the worst case of each norm at its headline budgets, and certified accuracy at its radii.

    `certified` are the certified accuracies of the file `certificates` (CERTIFIED_SCHEMA).
    """
    design, grids = evaluations.design, norm_grids(evaluations)
    budgets = headline_budgets(design, grids)
    norms = [norm for norm in design.norms if design.counted_in(norm)]
    worst = [(norm, budget) for norm in norms for budget in budgets[norm] if budget in grids[norm]]
    if design.attacks:
        yield from _attacked(evaluations, worst)
    rows = certified.to_pylist()
    shown = []
    for certificate in design.certificates:
        radii = sorted({row["radius"] for row in rows if row["certificate"] == certificate.name})
        headline = headline_radii(certificate.norm, budgets, radii)
        shown += [(certificate.name, certificate.norm, radius) for radius in headline if radius in radii]
    if certificates is not None and shown:
        yield from _certified(evaluations, certificates, shown)


def _attacked(evaluations: Evaluations, worst: list[tuple[str, float]]) -> Iterator[HeadlineOutcome]:
    """Yield clean accuracy and the worst cases, read variant by variant, so that memory does not grow with these."""
    design = evaluations.design
    shape = len(design.variants), len(design.seeds)
    clean, robust = np.full(shape, np.nan), {key: np.full(shape, np.nan) for key in worst}
    position = {seed: number for number, seed in enumerate(design.seeds)}
    planned: dict[tuple[str, int, str], set[str]] = {}
    norm_of = {attack.name: attack.norm for attack in design.attacks if attack.counts}
    for variant, seed, attack in design.cells():
        if attack in norm_of:
            planned.setdefault((variant, seed, norm_of[attack]), set()).add(attack)
    for number, variant in enumerate(design.variants):
        cells = evaluations.query(_CELLS, variant=variant)
        present = set(zip(cells["seed"].to_pylist(), cells["attack"].to_pylist(), strict=True))
        for row in evaluations.query(_CLEAN, variant=variant, attacks=list(design.clean_attacks)).to_pylist():
            clean[number, position[row["seed"]]] = row["accuracy"]
        parameters = {"norms": [norm for norm, _ in worst], "budgets": [budget for _, budget in worst]}
        for row in evaluations.query(_WORST, variant=variant, **parameters).to_pylist():
            attacks = planned.get((variant, row["seed"], row["norm"]), set())
            if all((row["seed"], attack) in present for attack in attacks):
                robust[row["norm"], row["budget"]][number, position[row["seed"]]] = row["accuracy"]
    yield HeadlineOutcome(CLEAN, "", None, 0.0, clean)
    for (norm, budget), values in robust.items():
        yield HeadlineOutcome("robust", f"{WORST_CASE}{norm}", norm, budget, values)


def _certified(
    evaluations: Evaluations, certificates: Path, shown: list[tuple[str, str, float]]
) -> Iterator[HeadlineOutcome]:
    design = evaluations.design
    variants = {variant: number for number, variant in enumerate(design.variants)}
    seeds = {seed: number for number, seed in enumerate(design.seeds)}
    values = {(name, radius): np.full((len(variants), len(seeds)), np.nan) for name, _, radius in shown}
    parameters = {"names": [name for name, _, _ in shown], "radii": [radius for _, _, radius in shown]}
    for row in evaluations.query(_CERTIFIED, path=str(certificates), **parameters).to_pylist():
        cell = variants[row["variant"]], seeds[row["seed"]]
        values[row["certificate"], row["radius_shown"]][cell] = row["accuracy"]
    for name, norm, radius in shown:
        yield HeadlineOutcome("certified", name, norm, radius, values[name, radius])
