"""Table of what made each cell of an experiment, read from the metadata of the cells' files."""

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
"""One row per model (`stage` is train), attack (evaluate), certificate (certify) and probe (diagnose) that exists.

`name` is the attack or the certificate. `recipe` is the hash of everything that decides the cell, `digest` that of its
rows (of a model: of its history), null where the file has none. `slice` is the part of the configuration that decides
the cell and `inputs` are the digests of its inputs, both JSON. `commit`, `dirty`, `finished` (UTC), `seconds` and
`versions` are run metadata.
"""

ORIGINS_VOLATILE = ("commit", "dirty", "finished", "seconds", "versions")
"""Run metadata: columns that the digest leaves out."""

_IDS = ("experiment", "variant", "seed", "name")


def read_origins(files: Mapping[C, Path]) -> pa.Table:
    """Read what made each cell from its file's metadata: rows of ORIGINS_SCHEMA, as `files` orders them.

    Raises InputError when a file is missing or damaged.
    """
    return pa.Table.from_pylist([_row(cell, read_metadata(path)) for cell, path in files.items()], ORIGINS_SCHEMA)


def _row(cell: CellIds, metadata: Mapping[str, str]) -> dict[str, object]:
    recipe = recipe_from(metadata)
    # The ids are columns; without them, all cells of an attack have the same slice.
    slice_ = {key: value for key, value in recipe.slice.items() if key not in _IDS} if recipe else {}
    seconds = metadata.get(SECONDS_KEY)
    return {
        "experiment": cell.experiment,
        "stage": str(cell.stage),
        "variant": cell.variant,
        "seed": cell.seed,
        "name": cell.name,
        "recipe": _unmarked(metadata.get(CELL_KEY)),
        "digest": _unmarked(metadata.get(DIGEST_KEY)),
        "slice": canonical_json(slice_),
        "inputs": canonical_json(dict(recipe.inputs) if recipe else {}),
        "seconds": float(seconds) if seconds else None,
        "versions": metadata.get(VERSIONS_KEY),
        **{name: metadata.get(f"gauntlet.{name}") for name in ("commit", "dirty", "finished")},
    }


def _unmarked(mark: str | None) -> str | None:
    """Return a mark without its prefix, so that a search for marks does not find those of other files in the table."""
    return mark.partition(":")[2] if mark else None
