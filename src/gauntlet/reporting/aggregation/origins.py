"""Where each cell of an experiment comes from, gathered from the files of the cells into one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from gauntlet.core.files import canonical_json
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import CELL_KEY, DIGEST_KEY, SECONDS_KEY, VERSIONS_KEY, recipe_from
from gauntlet.reporting.aggregation.cell_ids import C, CellIds

ORIGINS_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("stage", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("name", pa.string()),
        ("recipe", pa.string()),
        ("digest", pa.string()),
        ("slice", pa.string()),
        ("inputs", pa.string()),
        ("commit", pa.string()),
        ("dirty", pa.string()),
        ("finished", pa.string()),
        ("seconds", pa.float64()),
        ("versions", pa.string()),
    ]
)
"""One row per model (`stage` is train), attack (evaluate), certificate (certify) and probe (diagnose) that is there.

`name` names the attack or the certificate. `recipe` is the string that stands for everything that decides the cell,
`digest` that of its rows (of a model: of its history), null where the file does not say. `slice` is what of the
configuration decides it and `inputs` the digests of what it read, both JSON. `commit`, `dirty`, `finished` (UTC),
`seconds` and `versions` are the circumstances.
"""

ORIGINS_VOLATILE = ("commit", "dirty", "finished", "seconds", "versions")
"""Columns that differ from making to making, and so decide no digest."""

_IDS = ("experiment", "variant", "seed", "name")


def read_origins(files: Mapping[C, Path]) -> pa.Table:
    """Read what made each cell from its file's metadata: rows of ORIGINS_SCHEMA, as `files` orders them.

    Raises InputError when a file is missing or damaged.
    """
    return pa.Table.from_pylist([_row(cell, read_metadata(path)) for cell, path in files.items()], ORIGINS_SCHEMA)


def _row(cell: CellIds, made: Mapping[str, str]) -> dict[str, object]:
    recipe = recipe_from(made)
    # What names the cell stands in columns; without it, cells of one attack have one slice.
    slice_ = {key: value for key, value in recipe.slice.items() if key not in _IDS} if recipe else {}
    seconds = made.get(SECONDS_KEY)
    return {
        "experiment": cell.experiment,
        "stage": str(cell.stage),
        "variant": cell.variant,
        "seed": cell.seed,
        "name": cell.name,
        "recipe": _unmarked(made.get(CELL_KEY)),
        "digest": _unmarked(made.get(DIGEST_KEY)),
        "slice": canonical_json(slice_),
        "inputs": canonical_json(dict(recipe.inputs) if recipe else {}),
        "seconds": float(seconds) if seconds else None,
        "versions": made.get(VERSIONS_KEY),
        **{name: made.get(f"gauntlet.{name}") for name in ("commit", "dirty", "finished")},
    }


def _unmarked(mark: str | None) -> str | None:
    """Take the prefix from a mark: a table that lists those of many files must not be taken for one of them."""
    return mark.partition(":")[2] if mark else None
