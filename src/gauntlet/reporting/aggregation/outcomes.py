"""Rows of a results file as arrays of correct outcomes, one attack or certificate at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.budget_grids import attack_grid
from gauntlet.reporting.aggregation.combination import verify_combined
from gauntlet.reporting.aggregation.definitions import CERTIFIED, WORST_CASE, is_certified, is_robust
from gauntlet.reporting.aggregation.design import AttackDesign, ExperimentDesign
from gauntlet.reporting.aggregation.queries import Evaluations, norm_grids, open_connection

CLEAN = "clean"
SEEDS = "seeds:"
"""Prefix of an attack's name: the attack and its repetitions with other seeds, as replicates."""

_ROWS = """
    SELECT list_position($variants::VARCHAR[], variant) - 1 AS variant,
        list_position($seeds::BIGINT[], seed) - 1 AS seed, index, {level}::DOUBLE AS level, {correct} AS correct
    FROM {table} WHERE {name} = $name
"""
_RADIUS = f"CASE WHEN {CERTIFIED} THEN radius ELSE -1 END"


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of each variant on each sample under one measure: clean, robust or certified.

    `name` is the attack, "worst:NORM", "seeds:ATTACK" or the certificate, empty for clean; `epsilon` the budget or
    radius. `right` is bool (variants, training seeds, attack seeds, samples), valid where `present`, bool (variants,
    training seeds, attack seeds), is true. `missing` counts the missing cells of each variant.
    """

    measure: str
    name: str
    norm: str | None
    epsilon: float
    right: NDArray[np.bool_]
    present: NDArray[np.bool_]
    missing: NDArray[np.int64]


def read_outcomes(evaluations: Evaluations) -> Iterator[Outcomes]:
    """Yield the outcomes of every attack and worst case at each budget of the summary, then those of clean images.

    An attack on fewer samples than others has outcomes on these alone, and no part in worst cases and clean outcomes.
    Memory holds a few 8-byte numbers per row of one attack, and of all attacks that are repeated with other seeds.
    """
    design, grids = evaluations.design, norm_grids(evaluations)
    samples = evaluations.query("SELECT DISTINCT index FROM evaluations ORDER BY index")["index"].to_numpy()
    shape = (len(design.variants), len(design.seeds), len(samples))
    clean = np.full(shape, -1, dtype=np.int8)
    for norm in design.norms:
        worst, worst_missing = np.full(shape, np.nan, np.float64), np.zeros(len(design.variants), np.int64)
        repetitions: dict[str, list[NDArray[np.float64]]] = {}
        for attack in design.attacks_in(norm):
            levels, correct = _levels(evaluations.connection, design, samples, attack.name)
            missing = _missing(design, attack, levels)
            yield from _robust(attack.name, norm, attack_grid(attack, grids), levels[:, :, None], missing)
            if attack.name in design.clean_attacks:
                np.minimum(clean, correct, out=clean, where=(correct >= 0) & (clean >= 0))
                np.copyto(clean, correct, where=clean < 0)
            if attack.counts:
                np.fmin(worst, levels, out=worst)
                worst_missing += missing
            if attack.repeats:
                repetitions.setdefault(attack.repeats, []).append(levels)
        yield from _robust(f"{WORST_CASE}{norm}", norm, grids[norm], worst[:, :, None], worst_missing)
        for first, every in repetitions.items():
            attack = next(attack for attack in design.attacks if attack.name == first)
            missing = np.sum([_missing(design, attack, levels) for levels in every], axis=0)
            yield from _robust(f"{SEEDS}{first}", norm, attack_grid(attack, grids), np.stack(every, axis=2), missing)
    common = _in_every_cell(np.where(clean < 0, np.nan, clean)[:, :, None])
    present = np.asarray((clean >= 0).any(-1))[:, :, None]
    if present.any():
        missing = np.asarray([len(design.seeds_of(name)) for name in design.variants]) - present.sum((1, 2))
        yield Outcomes(CLEAN, "", None, 0.0, clean[:, :, None, common] == 1, present, missing)


def read_certified_outcomes(
    path: Path, design: ExperimentDesign, radii: Mapping[str, Sequence[float]]
) -> Iterator[Outcomes]:
    """Yield the outcomes of every certificate of a combined file at each of its norm's `radii`."""
    verify_combined(path)
    with open_connection() as connection:
        connection.read_parquet(str(path), hive_partitioning=False).create_view("rows")
        indices = connection.sql("SELECT DISTINCT index FROM rows ORDER BY index").to_arrow_table()
        samples = indices["index"].to_numpy()
        for certificate in design.certificates:
            levels, _ = _levels(connection, design, samples, certificate.name, certificate=True)
            levels = levels[:, :, None]
            planned = np.asarray(
                [len(design.seeds_of(name)) * (name in certificate.variants) for name in design.variants]
            )
            present, common = _present(levels), _in_every_cell(levels)
            missing = planned - present.sum((1, 2))
            for radius in radii.get(certificate.norm, ()):
                right = is_certified(levels[..., common], radius)
                yield Outcomes("certified", certificate.name, certificate.norm, radius, right, present, missing)


def _robust(
    name: str, norm: str, grid: Iterable[float], levels: NDArray[np.float64], missing: NDArray[np.int64]
) -> Iterator[Outcomes]:
    present, common = _present(levels), _in_every_cell(levels)
    if not present.any():
        return
    common_levels = levels[..., common]
    for epsilon in grid:
        yield Outcomes("robust", name, norm, epsilon, is_robust(common_levels, epsilon), present, missing)


def _levels(
    connection: duckdb.DuckDBPyConnection,
    design: ExperimentDesign,
    samples: NDArray[np.int64],
    name: str,
    *,
    certificate: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Read the smallest budget that fools each sample, or its certified radius, and whether it is classified correctly.

    Both are (variants, seeds, samples); NaN and -1 where there is no row.
    """
    sql = (
        _ROWS.format(level=_RADIUS, correct="true", table="rows", name="certificate")
        if certificate
        else _ROWS.format(level="fooled_at", correct="correct", table="evaluations", name="attack")
    )
    shape = (len(design.variants), len(design.seeds), len(samples))
    levels, correct = np.full(shape, np.nan, np.float64), np.full(shape, -1, np.int8)
    parameters = {"variants": list(design.variants), "seeds": list(design.seeds), "name": name}
    for batch in connection.sql(sql, params=parameters).to_arrow_reader(1 << 18):
        variant, seed, index, level, right = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        position = variant, seed, np.searchsorted(samples, index)
        levels[position], correct[position] = level, right
    return levels, correct


def _missing(design: ExperimentDesign, attack: AttackDesign, levels: NDArray[np.float64]) -> NDArray[np.int64]:
    planned = np.asarray([len(design.seeds_of(name)) * (name not in attack.without) for name in design.variants])
    return np.asarray(np.maximum(planned - (~np.isnan(levels)).any(-1).sum(-1), 0))


def _present(levels: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((~np.isnan(levels)).any(-1))


def _in_every_cell(levels: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which samples have a row in every cell that has rows."""
    known = ~np.isnan(levels)
    return np.asarray((known | ~known.any(-1, keepdims=True)).all((0, 1, 2)))
