"""Certified accuracies on the page, and the planned certificates that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gauntlet.reporting.aggregation import Evaluations
from gauntlet.reporting.aggregation.certified import radius_grid
from gauntlet.reporting.aggregation.definitions import CERTIFIED, certified_at
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.footnotes import footnote_marks

_LARGEST = """
    SELECT norm, max(radius) AS largest FROM read_parquet($path, hive_partitioning = false) GROUP BY norm ORDER BY norm
"""
_SEEDS = """
    SELECT DISTINCT variant, certificate, seed FROM read_parquet($path, hive_partitioning = false)
"""
_ACCURACIES = f"""
    SELECT variant, certificate, norm, count(*) AS samples, count(DISTINCT seed) AS seeds,
        avg(({CERTIFIED})::INT) AS certified,
        median(radius) FILTER ({CERTIFIED}) AS median, [{{shares}}] AS shares
    FROM read_parquet($path, hive_partitioning = false) WHERE norm = $norm GROUP BY ALL
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Certificates:
    """Certified accuracies by norm: a row per variant and certificate, at the radii of the norm.

    `planned` counts the certificates of single models, `missing` names those that are not in the file.
    """

    radii: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rows: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    planned: int = 0
    missing: tuple[str, ...] = ()


def read_certificates(
    evaluations: Evaluations, inputs: FigureInputs, budgets: Mapping[str, Sequence[float]], marks: Mapping[str, str]
) -> Certificates:
    """Read the certified accuracies of an experiment; nothing without a file of certificates.

    The radii of a norm are its `budgets`, or, in a norm without attacks, those of the certified accuracies.
    `marks` maps variants to the footnote marks of their accuracy.
    """
    if not inputs.has("certificates"):
        return Certificates()
    path = str(inputs.path("certificates"))
    largest = {row["norm"]: row["largest"] for row in evaluations.query(_LARGEST, path=path).to_pylist()}
    radii = {norm: tuple(budgets.get(norm, radius_grid(value)[1:])) for norm, value in largest.items()}
    cells = evaluations.query(_SEEDS, path=path).to_pylist()
    present = {(row["variant"], row["certificate"], row["seed"]) for row in cells}
    planned = list(_planned(evaluations))
    missing = [cell for cell in planned if cell not in present]
    lacking = {(variant, certificate) for variant, certificate, _ in missing}
    order = {variant: number for number, variant in enumerate(inputs.variants)}
    certifies = {item.name: item.certifies for item in evaluations.design.certificates}
    rows: dict[str, tuple[Row, ...]] = {}
    for norm, values in radii.items():
        shares = ", ".join(f"avg(({certified_at(repr(radius))})::INT)" for radius in values)
        found = evaluations.query(_ACCURACIES.format(shares=shares), norm=norm, path=path).to_pylist()
        for row in found:
            mark = footnote_marks([{"missing": (row["variant"], row["certificate"]) in lacking}])
            row |= {"certifies": certifies.get(row["certificate"], "model")}
            row |= {"marks": mark + marks.get(row["variant"], "")}
        found.sort(key=lambda row: (order.get(row["variant"], len(order)), row["certificate"]))
        rows[norm] = tuple(found)
    names = (f"{variant}, seed {seed}, {certificate}" for variant, certificate, seed in missing)
    return Certificates(radii, rows, len(planned), tuple(names))


def _planned(evaluations: Evaluations) -> Iterator[tuple[str, str, int]]:
    """Yield variant, certificate and seed of every planned certificate of a model."""
    design = evaluations.design
    for variant in design.variants:
        for seed in design.seeds_of(variant):
            for certificate in design.certificates:
                if variant in certificate.variants:
                    yield variant, certificate.name, seed
