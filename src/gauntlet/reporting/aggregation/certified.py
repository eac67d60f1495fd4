"""Certified accuracies with intervals: shares of samples whose correct class is certified within a radius."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from gauntlet.core.errors import InputError, first_line
from gauntlet.core.parquet import read_metadata
from gauntlet.reporting.aggregation.combination import verify_combined
from gauntlet.reporting.aggregation.definitions import CERTIFIED, certified_at
from gauntlet.reporting.aggregation.design import CertificateDesign, ExperimentDesign, design_from_metadata
from gauntlet.reporting.aggregation.patterns import Patterns, read_patterns
from gauntlet.reporting.aggregation.queries import check_samples, open_connection

CERTIFIED_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("certificate", pa.string()),
        ("norm", pa.string()),
        ("certifies", pa.string()),
        ("radius", pa.float64()),
        ("seeds", pa.int64()),
        ("samples", pa.int64()),
        ("certified_accuracy", pa.float64()),
        ("wilson_low", pa.float64()),
        ("wilson_high", pa.float64()),
        ("t_low", pa.float64()),
        ("t_high", pa.float64()),
        ("training_std", pa.float64()),
        ("abstained", pa.float64()),
        ("median_radius", pa.float64()),
        ("lipschitz_claimed", pa.float64()),
        ("lipschitz_measured", pa.float64()),
        ("missing", pa.int64()),
    ]
)
"""One row per variant, certificate and radius.

`certified_accuracy` is the mean over seeds of the share of all samples whose correct class is certified with at least
`radius`, in `norm` and pixel units; radius 0 counts all certified samples. `certifies` names the classifier: the model,
or one made from it ("smoothed"). `wilson_*`, `t_*` and `training_std` are as in SUMMARY_SCHEMA. `abstained` is the mean
share of samples with that status, `median_radius` the median over certified samples. `lipschitz_claimed` is the L2
constant assumed by the certificate, `lipschitz_measured` the largest one found between test images, each the largest
over seeds; null for certificates without one. `seeds` and `samples` (pooled over seeds) count the cells that are
present, `missing` those that are not; shares are null where all are missing. The radii of a norm are multiples of one
step, up to the largest radius of any of its certificates.
"""

_MOST_STEPS = 10

# A row is at level k if it is certified at the k smallest radii of its norm.
_LEVELS = f"""
    SELECT variant, certificate, index, list_position($seeds::BIGINT[], seed) - 1 AS replicate,
        len(list_filter(grid, lambda step: {certified_at("step")})) AS level
    FROM rows JOIN (SELECT unnest($norms::VARCHAR[]) AS norm, unnest($grids::DOUBLE[][]) AS grid) USING (norm)
"""
_COUNTS = """
    SELECT variant, certificate, seed, count(*) AS samples, count_if(status = 'abstained') AS abstained
    FROM rows GROUP BY variant, certificate, seed ORDER BY variant, certificate, seed
"""
_MEDIANS = f"SELECT variant, certificate, median(radius) AS median FROM rows WHERE {CERTIFIED} GROUP BY ALL"
_LARGEST = "SELECT norm, max(radius) AS largest FROM rows GROUP BY norm"


def certified_accuracies(
    path: Path,
    *,
    constants: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    radii: Mapping[str, Sequence[float]] | None = None,
) -> pa.Table:
    """Summarize a combined certificates file: rows of CERTIFIED_SCHEMA, in the order of its design.

    `constants` maps (variant, certificate) to claimed and measured Lipschitz constants; `radii` maps norms to radii in
    addition to those of `radius_grid`.

    Raises InputError when the file is missing, damaged or not a certificates file.
    """
    verified = verify_combined(path)
    design = design_from_metadata(read_metadata(path))
    if design is None:
        raise InputError(
            "there is no design of an experiment in the file's metadata", where=str(path), remedy="aggregate again"
        )
    with open_connection() as connection:
        try:
            connection.read_parquet(str(path), hive_partitioning=False).create_view("rows")
            if not verified:
                check_samples(connection, path, name="certificate")
            largest = dict(connection.sql(_LARGEST).fetchall())
            additional = radii or {}
            grids = {norm: sorted({*radius_grid(value), *additional.get(norm, ())}) for norm, value in largest.items()}
            parameters = {"norms": list(grids), "grids": list(grids.values()), "seeds": sorted(design.seeds)}
            patterns = read_patterns(
                lambda sql: connection.sql(sql, params=parameters).to_arrow_table(),
                _LEVELS,
                keys=("variant", "certificate"),
                replicates=len(design.seeds),
                levels=1 + max(map(len, grids.values()), default=0),
            )
            counts = connection.sql(_COUNTS).to_arrow_table().to_pylist()
            medians = connection.sql(_MEDIANS).fetchall()
        except duckdb.Error as error:
            reason = first_line(error)
            raise InputError(f"this is not a certificates file ({reason})", where=str(path)) from error
    median_of = {(variant, certificate): median for variant, certificate, median in medians}
    of_cell: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in counts:
        of_cell.setdefault((row["variant"], row["certificate"]), []).append(row)
    rows = []
    for certificate, variant in itertools.product(design.certificates, design.variants):
        if variant in certificate.variants:
            # Where every certificate of the norm is missing, the columns are there to show it.
            unmeasured = sorted({0.0, *additional.get(certificate.norm, ())})
            key, grid = (variant, certificate.name), grids.get(certificate.norm, unmeasured)
            claimed, measured = (constants or {}).get(key, (None, None))
            head = _head(design, certificate, variant) | {"median_radius": median_of.get(key)}
            head |= {"lipschitz_claimed": claimed, "lipschitz_measured": measured}
            accuracies = _accuracies(patterns.get(key), of_cell.get(key, []), grid, len(design.seeds_of(variant)))
            rows += [head | row for row in accuracies]
    return pa.Table.from_pylist(rows, schema=CERTIFIED_SCHEMA)


def radius_grid(largest: float) -> list[float]:
    """Return the radii at which certified accuracy is stated: 0, and multiples of 1, 2.5 or 5 times a power of ten.

    At most ten beyond 0, none larger than `largest`: 0, 0.25, 0.5, … for radii up to 2.5.
    """
    if not largest > 0:
        return [0.0]
    power = math.floor(math.log10(largest)) - 1
    steps = (float(f"{factor}e{power + offset}") for offset in range(3) for factor in (1, 2.5, 5))
    step = next(step for step in steps if largest / step < _MOST_STEPS + 1)
    return [float(f"{number * step:.12g}") for number in range(math.floor(largest / step) + 1)]


def _head(design: ExperimentDesign, certificate: CertificateDesign, variant: str) -> dict[str, Any]:
    return {
        "experiment": design.experiment,
        "variant": variant,
        "certificate": certificate.name,
        "norm": certificate.norm,
        "certifies": certificate.certifies,
    }


def _accuracies(
    patterns: Patterns | None, counts: list[dict[str, Any]], grid: Sequence[float], planned: int
) -> list[dict[str, Any]]:
    """Return one row per radius; `counts` are those of each seed."""
    if patterns is None:
        return [{"radius": radius, "seeds": 0, "samples": 0, "missing": planned} for radius in grid]
    shared = {
        "seeds": len(counts),
        "samples": sum(row["samples"] for row in counts),
        "abstained": float(np.mean([row["abstained"] / row["samples"] for row in counts])),
        "missing": planned - len(counts),
    }
    return [
        {"radius": radius, **shared, **patterns.accuracy(number).as_row("certified_accuracy")}
        for number, radius in enumerate(grid)
    ]
