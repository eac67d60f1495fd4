"""Who is right on which sample: the rows of a results file as arrays, one attack or certificate at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.definitions import CERTIFIED, WORST_CASE, is_certified, is_robust
from gauntlet.reporting.aggregation.design import AttackDesign, ExperimentDesign
from gauntlet.reporting.aggregation.queries import Evaluations, attack_grid, norm_grids, open_connection

CLEAN = "clean"
SEEDS = "seeds:"
"""Before the name of an attack that is repeated with other seeds: all of them together, each a replicate."""

_ROWS = """
    SELECT list_position($variants::VARCHAR[], variant) - 1 AS variant,
        list_position($seeds::BIGINT[], seed) - 1 AS seed, index, {level}::FLOAT AS level, {clean} AS clean
    FROM {table} WHERE {name} = $name
"""
_RADIUS = f"CASE WHEN {CERTIFIED} THEN radius ELSE -1 END"


@dataclass(frozen=True)
class Outcomes:
    """Which samples each variant has right under one measure: `measure` is clean, robust or certified.

    `name` is the attack, "worst:NORM", "seeds:ATTACK" or the certificate, empty for clean; `epsilon` the budget or
    radius. `right` is bool (variants, training seeds, attack seeds, samples), and means nothing where `present`, bool
    (variants, training seeds, attack seeds), is false. `missing` counts the planned cells of each variant that are not
    there.
    """

    measure: str
    name: str
    norm: str | None
    epsilon: float
    right: NDArray[np.bool_]
    present: NDArray[np.bool_]
    missing: NDArray[np.int64]


def read_outcomes(evaluations: Evaluations) -> Iterator[Outcomes]:
    """Give the outcomes of every attack and worst case at each budget where the summary states it; clean comes last.

    In memory are a few numbers of 4 bytes per row of one attack, and of attacks that are repeated with other seeds.
    """
    design, grids = evaluations.design, norm_grids(evaluations)
    samples = evaluations.query("SELECT DISTINCT index FROM evaluations ORDER BY index")["index"].to_numpy()
    shape = (len(design.variants), len(design.seeds), len(samples))
    clean = np.full(shape, -1, dtype=np.int8)
    clean_missing = np.zeros(len(design.variants), np.int64)
    for norm in design.norms:
        worst, kept = np.full(shape, np.nan, np.float32), dict[str, list[NDArray[np.float32]]]()
        lacking = np.zeros(len(design.variants), np.int64)
        for attack in design.attacks_in(norm):
            levels, seen = _levels(evaluations.connection, design, samples, attack.name)
            missing = _missing(design, attack, levels)
            yield from _robust(attack.name, norm, attack_grid(attack, grids), levels[:, :, None], missing)
            np.minimum(clean, seen, out=clean, where=(seen >= 0) & (clean >= 0))
            np.copyto(clean, seen, where=clean < 0)
            if attack.counts:
                np.fmin(worst, levels, out=worst)
                lacking += missing
            if attack.repeats:
                kept.setdefault(attack.repeats, []).append(levels)
        yield from _robust(f"{WORST_CASE}{norm}", norm, grids[norm], worst[:, :, None], lacking)
        for first, every in kept.items():
            attack = next(one for one in design.attacks if one.name == first)
            together = np.stack(every, axis=2)
            absent = np.sum([_missing(design, attack, levels) for levels in every], axis=0)
            yield from _robust(f"{SEEDS}{first}", norm, attack_grid(attack, grids), together, absent)
    kept_samples = _common(np.where(clean < 0, np.nan, clean)[:, :, None])
    present = np.asarray((clean >= 0).any(-1))[:, :, None]
    if present.any():
        clean_missing += (~present).sum((1, 2))
        yield Outcomes(CLEAN, "", None, 0.0, clean[:, :, None, kept_samples] == 1, present, clean_missing)


def read_certified_outcomes(
    path: Path, design: ExperimentDesign, radii: Mapping[str, Sequence[float]]
) -> Iterator[Outcomes]:
    """Give who is certified right at each of its norm's `radii`, for every certificate of a combined file."""
    with open_connection() as connection:
        connection.read_parquet(str(path), hive_partitioning=False).create_view("rows")
        found = connection.sql("SELECT DISTINCT index FROM rows ORDER BY index").to_arrow_table()
        samples = found["index"].to_numpy()
        for certificate in design.certificates:
            levels, _ = _levels(connection, design, samples, certificate.name, certificate=True)
            levels = levels[:, :, None]
            planned = np.asarray([len(design.seeds) * (one in certificate.variants) for one in design.variants])
            present, kept = _present(levels), _common(levels)
            for radius in radii.get(certificate.norm, ()):
                right = is_certified(levels[..., kept], radius)
                missing = planned - present.sum((1, 2))
                yield Outcomes("certified", certificate.name, certificate.norm, radius, right, present, missing)


def _robust(
    name: str, norm: str, grid: Iterable[float], levels: NDArray[np.float32], missing: NDArray[np.int64]
) -> Iterator[Outcomes]:
    present, kept = _present(levels), _common(levels)
    if not present.any():
        return
    chosen = levels[..., kept]
    for epsilon in grid:
        yield Outcomes("robust", name, norm, epsilon, is_robust(chosen, epsilon), present, missing)


def _levels(
    connection: duckdb.DuckDBPyConnection,
    design: ExperimentDesign,
    samples: NDArray[np.int64],
    name: str,
    *,
    certificate: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Read the budget at which each sample falls, or its certified radius, and whether it is right as it is.

    Both are (variants, seeds, samples); NaN and -1 where there is no row.
    """
    sql = (
        _ROWS.format(level=_RADIUS, clean="true", table="rows", name="certificate")
        if certificate
        else _ROWS.format(level="fooled_at", clean="correct", table="evaluations", name="attack")
    )
    shape = (len(design.variants), len(design.seeds), len(samples))
    levels, clean = np.full(shape, np.nan, np.float32), np.full(shape, -1, np.int8)
    given = {"variants": list(design.variants), "seeds": list(design.seeds), "name": name}
    for batch in connection.sql(sql, params=given).to_arrow_reader(1 << 18):
        variant, seed, index, level, right = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        place = variant, seed, np.searchsorted(samples, index)
        levels[place], clean[place] = level, right
    return levels, clean


def _missing(design: ExperimentDesign, attack: AttackDesign, levels: NDArray[np.float32]) -> NDArray[np.int64]:
    planned = np.asarray([len(design.seeds) * (variant not in attack.without) for variant in design.variants])
    return np.asarray(np.maximum(planned - (~np.isnan(levels)).any(-1).sum(-1), 0))


def _present(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((~np.isnan(levels)).any(-1))


def _common(levels: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which samples every cell has that has any."""
    known = ~np.isnan(levels)
    return np.asarray((known | ~known.any(-1, keepdims=True)).all((0, 1, 2)))
