"""DuckDB queries over a combined evaluations file, in limited memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from gauntlet.core.errors import InputError, first_line
from gauntlet.core.parquet import read_metadata
from gauntlet.reporting.aggregation.budget_grids import bounded_grid, merged_values
from gauntlet.reporting.aggregation.combination import verify_combined
from gauntlet.reporting.aggregation.definitions import (
    CORRECT,
    DISTANCE,
    ERROR,
    FOOLED,
    FOOLED_AT,
    WORST_CASE,
    counts_in,
    quoted,
)
from gauntlet.reporting.aggregation.design import AttackDesign, ExperimentDesign, design_from_metadata

MEMORY_LIMIT = "1GiB"

_MOST_GRID_BUDGETS = 32
_DECILES = [number / 10 for number in range(1, 10)] + [0.99]

_TWICE = """
    SELECT variant, seed, {name}, index, count(*) AS rows FROM rows
    GROUP BY variant, seed, {name}, index HAVING rows > 1 ORDER BY ALL LIMIT 1
"""
_TWO_IMAGES = """
    SELECT index FROM rows GROUP BY index HAVING count(DISTINCT (label, {hash})) > 1 ORDER BY index LIMIT 1
"""
# NaN compares as greater than every number: a fooled sample without a budget, or a radius of NaN, would count as robust
# or certified.
CONTRADICTORY = {
    "attack": """
        SELECT variant, seed, attack, index FROM rows WHERE NOT coalesce(CASE status
            WHEN 'adversarial' THEN isfinite(epsilon::DOUBLE) AND epsilon >= 0 WHEN 'already_wrong' THEN epsilon = 0
            WHEN 'robust' THEN epsilon IS NULL OR NOT isfinite(epsilon::DOUBLE) WHEN 'error' THEN true END, false)
        ORDER BY ALL LIMIT 1
    """,
    "certificate": """
        SELECT variant, seed, certificate, index FROM rows WHERE NOT coalesce(CASE
            WHEN status = 'certified' THEN isfinite(radius::DOUBLE) AND radius >= 0
            WHEN status IN ('abstained', 'already_wrong') THEN radius IS NULL OR isfinite(radius::DOUBLE) END, false)
        ORDER BY ALL LIMIT 1
    """,
}
_UNEQUAL = """
    SELECT variant, seed, norm FROM (
        SELECT variant, seed, norm, index, count(*) AS attacks FROM evaluations WHERE {counts} GROUP BY ALL
    ) GROUP BY ALL HAVING min(attacks) < max(attacks) ORDER BY ALL LIMIT 1
"""
_EVALUATIONS = f"""
    CREATE VIEW evaluations AS
    SELECT *, {CORRECT} AS correct, {ERROR} AS error, {FOOLED} AS fooled, {FOOLED_AT} AS fooled_at,
        {DISTANCE} AS distance
    FROM rows
"""
# Earlier versions wrote budgets as float32, where 0.1 is above the 0.1 of the grid. Each is replaced by the value of
# the grid that rounds to it.
_BUDGETS_OF_FLOAT32 = """
    CREATE VIEW {name} AS SELECT * REPLACE (
        coalesce(list_filter({grid}::DOUBLE[], lambda value: value::FLOAT = epsilon)[1], {other}) AS epsilon
    ) FROM stored_rows
"""
# Samples that several attacks fooled at close budgets have equal ones: a difference of roundings is none.
_CLOSE_BUDGETS = "CREATE VIEW rows AS SELECT * REPLACE (CASE {cases} ELSE epsilon END AS epsilon) FROM own_budgets"
_WORST_CASES = """
    CREATE VIEW worst_cases AS
    SELECT variant, norm, seed, index, bool_and(correct) AS correct, bool_or(error) AS error,
        min(fooled_at) AS fooled_at, min(distance) AS distance, min({confidence}) AS clean_confidence
    FROM evaluations WHERE {counts} GROUP BY variant, norm, seed, index
"""
_OUTCOMES = f"""
    CREATE VIEW outcomes AS
    SELECT variant, attack AS name, seed, index, correct, error, fooled_at, distance,
        {{confidence}} AS clean_confidence FROM evaluations
    UNION ALL
    SELECT variant, '{WORST_CASE}' || norm AS name, seed, index, correct, error, fooled_at, distance,
        clean_confidence FROM worst_cases
"""


@dataclass(frozen=True)
class Evaluations:
    """A combined evaluations file opened for queries, with the design of its experiment.

    The view `evaluations` has the rows of the file and the columns `correct`, `error`, `fooled`, `fooled_at` and
    `distance` (see `definitions`). The view `worst_cases` has a row per variant, norm, seed and sample, over the
    attacks of the norm that count. The view `outcomes` has the rows of both, by `name`: the attack, or "worst:NORM".
    """

    path: Path
    design: ExperimentDesign
    connection: duckdb.DuckDBPyConnection

    def query(self, sql: str, **parameters: object) -> pa.Table:
        """Run a query with the parameters `$name`."""
        return self.connection.sql(sql, params=parameters or None).to_arrow_table()


@contextmanager
def open_evaluations(path: Path) -> Iterator[Evaluations]:
    """Open a combined evaluations file.

    The design is read from the file's metadata, or inferred from the rows of a file without one (made elsewhere).

    Raises InputError when the file is missing, was changed after it was written, or is not an evaluations file.
    """
    verified = verify_combined(path)
    design = design_from_metadata(read_metadata(path))
    with open_connection() as connection:
        _create_views(connection, path, design)
        if not verified:
            check_samples(connection, path, name="attack")
            # Without a design, attacks on fewer samples than others are not known to have no part in worst cases.
            if design:
                _check_worst_cases(connection, path, design)
        evaluations = Evaluations(path, design or ExperimentDesign("", (), (), ()), connection)
        yield evaluations if design else replace(evaluations, design=_infer_design(evaluations))


@contextmanager
def open_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a private database with limited memory, a temporary folder to spill to, and no automatic extensions."""
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
            # DuckDB draws a progress bar in processes that it takes for interactive ones, such as spawned ones.
            connection.execute("SET enable_progress_bar = false")
            yield connection


def check_samples(connection: duckdb.DuckDBPyConnection, path: Path, *, name: str) -> None:
    """Check the rows of the view `rows`, of a file that was not combined here: each sample once per model and `name`.

    Raises InputError for a sample that appears twice, an index that has two images or labels, and a row whose budget or
    radius contradicts its status.
    """
    for variant, seed, cell, index, count in connection.sql(_TWICE.format(name=name)).fetchall():
        where = f"variant {variant}, seed {seed}, {name} {cell}"
        raise InputError(
            f"sample {index} appears {count} times ({where})", where=str(path), remedy="keep each row once"
        )
    sample_hash = "sample_hash" if "sample_hash" in connection.table("rows").columns else "NULL"
    for (index,) in connection.sql(_TWO_IMAGES.format(hash=sample_hash)).fetchall():
        raise InputError(
            f"index {index} has several images or labels", where=str(path), remedy="keep the rows of one test split"
        )
    for variant, seed, cell, index in connection.sql(CONTRADICTORY[name]).fetchall():
        value = "epsilon" if name == "attack" else "radius"
        problem = (
            f"the {value} of sample {index} contradicts its status (variant {variant}, seed {seed}, {name} {cell})"
        )
        raise InputError(problem, where=str(path), remedy="see docs/schema.md for the values of each status")


def _check_worst_cases(connection: duckdb.DuckDBPyConnection, path: Path, design: ExperimentDesign) -> None:
    """Check a file that was not combined here: all attacks in a worst case are run on the same samples.

    Raises InputError if they are not.
    """
    query = _UNEQUAL.format(counts=counts_in(design.uncounted))
    for variant, seed, norm in connection.sql(query).fetchall():
        problem = f"the attacks in {norm} are not run on the same samples (variant {variant}, seed {seed})"
        raise InputError(
            f"{problem}, so there is no worst case", where=str(path), remedy="keep all rows of each attack"
        )


def norm_grids(evaluations: Evaluations) -> dict[str, tuple[float, ...]]:
    """Return the ascending budgets at which each norm's worst case is stated.

    They are the union of the grids of its bounded attacks that count, close budgets once (`merge_budgets`); without
    any, the configured headline and deciles of the measured distances, rounded to two digits. Where no attack of the
    norm counts, they are those of all.
    """
    design = evaluations.design
    grids: dict[str, tuple[float, ...]] = {}
    for norm in design.norms:
        attacks = design.counted_in(norm) or design.attacks_in(norm)
        values = set(bounded_grid(design, norm))
        if not values:
            values = {*design.headline.get(norm, ()), *_deciles(evaluations, [attack.name for attack in attacks])}
        # Without budgets and fooled samples only the accuracy at ε = 0 is stated.
        grids[norm] = tuple(sorted(values)) or (0.0,)
    return grids


def count_missing(evaluations: Evaluations, variants: Collection[str], attacks: Collection[str]) -> int:
    """Count the planned cells of some variants and attacks that have no rows."""
    cells = evaluations.query("SELECT DISTINCT variant, seed, attack FROM evaluations").to_pydict()
    present = set(zip(cells["variant"], cells["seed"], cells["attack"], strict=True))
    planned = (cell for cell in evaluations.design.cells() if cell[0] in variants and cell[2] in attacks)
    return sum(cell not in present for cell in planned)


def _create_views(connection: duckdb.DuckDBPyConnection, path: Path, design: ExperimentDesign | None) -> None:
    uncounted = design.uncounted if design else ()
    merged = merged_values(design) if design else {}
    name = "own_budgets" if merged else "rows"
    try:
        rows = connection.read_parquet(str(path), hive_partitioning=False, file_row_number=True)
        if dict(zip(rows.columns, rows.types, strict=True)).get("epsilon") == "FLOAT":
            rows.create_view("stored_rows")
            grid = sorted({value for attack in design.attacks for value in attack.epsilons or ()}) if design else []
            # Without a design the grid is unknown, and the shortest decimal number is what was most likely configured.
            other = "epsilon::DOUBLE" if design else "epsilon::VARCHAR::DOUBLE"
            connection.execute(_BUDGETS_OF_FLOAT32.format(name=name, grid=grid, other=other))
        else:
            rows.create_view(name)
        if merged:
            cases = " ".join(
                f"WHEN attack = {quoted(attack)} AND epsilon = {value!r} THEN {stated!r}::DOUBLE"
                for (attack, value), stated in merged.items()
            )
            connection.execute(_CLOSE_BUDGETS.format(cases=cases))
        connection.execute(_EVALUATIONS)
        # A file that was made elsewhere may have no confidences.
        confidence = "clean_confidence" if "clean_confidence" in rows.columns else "NULL::FLOAT"
        connection.execute(_WORST_CASES.format(counts=counts_in(uncounted), confidence=confidence))
        connection.execute(_OUTCOMES.format(confidence=confidence))
    except duckdb.Error as error:
        reason = first_line(error)
        raise InputError(f"this is not an evaluations file ({reason})", where=str(path)) from error


def _infer_design(evaluations: Evaluations) -> ExperimentDesign:
    """Infer a design from the rows: names in order of appearance, a grid where an attack has few distinct budgets."""
    cells = evaluations.query(
        "SELECT experiment, variant, seed, attack, norm, min(file_row_number) AS position "
        "FROM evaluations GROUP BY ALL ORDER BY position"
    ).to_pydict()
    experiments = list(dict.fromkeys(cells["experiment"]))
    if len(experiments) != 1:
        raise InputError(f"the file holds {len(experiments)} experiments, not one", where=str(evaluations.path))
    norms = dict(zip(cells["attack"], cells["norm"], strict=True))
    attacks = (AttackDesign(name, norm, _budgets(evaluations, name)) for name, norm in norms.items())
    variants, seeds = (tuple(dict.fromkeys(cells[column])) for column in ("variant", "seed"))
    return ExperimentDesign(experiments[0], variants, tuple(sorted(seeds)), tuple(attacks))


def _budgets(evaluations: Evaluations, attack: str) -> tuple[float, ...] | None:
    """Return the distinct budgets of an attack, None if there are many."""
    table = evaluations.query(
        "SELECT DISTINCT epsilon FROM evaluations WHERE attack = $attack AND epsilon > 0 LIMIT $most",
        attack=attack,
        most=_MOST_GRID_BUDGETS + 1,
    )
    values = sorted(table["epsilon"].to_pylist())
    return tuple(values) if 0 < len(values) <= _MOST_GRID_BUDGETS else None


def _deciles(evaluations: Evaluations, attacks: list[str]) -> set[float]:
    table = evaluations.query(
        "SELECT quantile_disc(fooled_at, $shares) AS deciles FROM evaluations "
        "WHERE list_contains($attacks::VARCHAR[], attack) AND fooled",
        shares=_DECILES,
        attacks=attacks,
    )
    deciles = table["deciles"][0].as_py() or []
    return {float(f"{value:.2g}") for value in deciles if np.isfinite(value) and value > 0}
