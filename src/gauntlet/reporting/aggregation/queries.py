"""Queries over a combined evaluations file: DuckDB reads the columns it needs and spills to disk rather than grow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata
from gauntlet.reporting.aggregation.definitions import (
    CORRECT,
    DISTANCE,
    ERROR,
    FOOLED,
    FOOLED_AT,
    WORST_CASE,
    counts_in,
)
from gauntlet.reporting.aggregation.design import AttackDesign, ExperimentDesign, design_from_metadata

MEMORY_LIMIT = "1GiB"

_FEW = 32
_DECILES = [number / 10 for number in range(1, 10)] + [0.99]

_EVALUATIONS = f"""
    CREATE VIEW evaluations AS
    SELECT *, {CORRECT} AS correct, {ERROR} AS error, {FOOLED} AS fooled, {FOOLED_AT} AS fooled_at,
        {DISTANCE} AS distance
    FROM rows
"""
_WORST_CASES = """
    CREATE VIEW worst_cases AS
    SELECT variant, norm, seed, index, bool_and(correct) AS correct, bool_or(error) AS error,
        min(fooled_at) AS fooled_at, min(distance) AS distance
    FROM evaluations WHERE {counts} GROUP BY variant, norm, seed, index
"""
_OUTCOMES = f"""
    CREATE VIEW outcomes AS
    SELECT variant, attack AS name, seed, correct, error, fooled_at, distance FROM evaluations
    UNION ALL
    SELECT variant, '{WORST_CASE}' || norm AS name, seed, correct, error, fooled_at, distance FROM worst_cases
"""


@dataclass(frozen=True)
class Evaluations:
    """A combined evaluations file opened for queries, and the plan it belongs to.

    The view `evaluations` has the rows of the file and the columns `correct`, `error`, `fooled`, `fooled_at` and
    `distance` (see `definitions`). The view `worst_cases` has a row per variant, norm, seed and sample, over the
    attacks of the norm that count. The view `outcomes` has the rows of both, by `name`: the attack, or "worst:NORM".
    """

    path: Path
    design: ExperimentDesign
    connection: duckdb.DuckDBPyConnection

    def query(self, sql: str, **parameters: object) -> pa.Table:
        """Run a query; `$name` in it stands for the parameter `name`."""
        return self.connection.sql(sql, params=parameters or None).to_arrow_table()


@contextmanager
def open_evaluations(path: Path) -> Iterator[Evaluations]:
    """Open a combined evaluations file.

    The plan comes from the file's metadata; a file without one (made elsewhere) is planned after its rows.

    Raises InputError when the file is missing or no evaluations file.
    """
    metadata = read_metadata(path)
    planned = design_from_metadata(metadata)
    with open_connection() as connection:
        _create_views(connection, path, planned)
        undesigned = Evaluations(path, ExperimentDesign("", (), (), ()), connection)
        design = planned or _plan_from_rows(undesigned)
        yield replace(undesigned, design=design)


@contextmanager
def open_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database of its own: little memory, a folder to spill to that is removed, nothing installed by itself."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": min(4, os.cpu_count() or 1),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with tempfile.TemporaryDirectory(prefix="gauntlet-query-") as spill:
        settings["temp_directory"] = spill
        with duckdb.connect(config=settings) as connection:
            # It draws a bar wherever it takes the process for an interactive one, as it does one that was spawned.
            connection.execute("SET enable_progress_bar = false")
            yield connection


def norm_grids(evaluations: Evaluations) -> dict[str, tuple[float, ...]]:
    """Give each norm the ascending budgets at which its worst case is stated.

    They are the union of the grids of its bounded attacks; without any, deciles of the measured distances, rounded to
    two digits. Values compare with the rows' float32 budgets after rounding to float32.
    """
    grids: dict[str, tuple[float, ...]] = {}
    for norm in evaluations.design.norms:
        bounded = [
            attack.epsilons for attack in evaluations.design.attacks_in(norm) if attack.epsilons and attack.counts
        ]
        grids[norm] = tuple(sorted({value for grid in bounded for value in grid})) or _deciles(evaluations, norm)
    return grids


def attack_grid(attack: AttackDesign, grids: dict[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Give the budgets at which one attack's accuracy is stated: its own grid, or its norm's."""
    return attack.epsilons or grids[attack.norm]


def _create_views(connection: duckdb.DuckDBPyConnection, path: Path, design: ExperimentDesign | None) -> None:
    uncounted = design.uncounted if design else ()
    try:
        rows = connection.read_parquet(str(path), hive_partitioning=False, file_row_number=True)
        rows.create_view("rows")
        connection.execute(_EVALUATIONS)
        connection.execute(_WORST_CASES.format(counts=counts_in(uncounted)))
        connection.execute(_OUTCOMES)
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"this is no evaluations file ({reason})", where=str(path)) from error


def _plan_from_rows(evaluations: Evaluations) -> ExperimentDesign:
    """Plan after what is there: names in order of first appearance, a grid where an attack has few distinct budgets."""
    cells = evaluations.query(
        "SELECT experiment, variant, seed, attack, norm, min(file_row_number) AS position "
        "FROM evaluations GROUP BY ALL ORDER BY position"
    ).to_pydict()
    experiments = list(dict.fromkeys(cells["experiment"]))
    if len(experiments) != 1:
        raise InputError(f"it holds {len(experiments)} experiments, not one", where=str(evaluations.path))
    norms = dict(zip(cells["attack"], cells["norm"], strict=True))
    attacks = (AttackDesign(name, norm, _budgets(evaluations, name)) for name, norm in norms.items())
    variants, seeds = (tuple(dict.fromkeys(cells[column])) for column in ("variant", "seed"))
    return ExperimentDesign(experiments[0], variants, tuple(sorted(seeds)), tuple(attacks))


def _budgets(evaluations: Evaluations, attack: str) -> tuple[float, ...] | None:
    """Give the distinct budgets of an attack that has few, as the decimal numbers they were written as."""
    table = evaluations.query(
        "SELECT DISTINCT epsilon FROM evaluations WHERE attack = $attack AND epsilon > 0 LIMIT $most",
        attack=attack,
        most=_FEW + 1,
    )
    values = table["epsilon"].to_numpy()
    return tuple(sorted(float(str(value)) for value in values)) if 0 < len(values) <= _FEW else None


def _deciles(evaluations: Evaluations, norm: str) -> tuple[float, ...]:
    table = evaluations.query(
        "SELECT quantile_disc(fooled_at, $shares) AS deciles FROM evaluations WHERE norm = $norm AND fooled",
        shares=_DECILES,
        norm=norm,
    )
    deciles = table["deciles"][0].as_py() or []
    # Nothing was ever fooled: what remains to state is the accuracy without a budget.
    return tuple(sorted({float(f"{value:.2g}") for value in deciles if np.isfinite(value) and value > 0})) or (0.0,)
