"""The table of origins: recipe, inputs and run metadata of each cell."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, write_table
from gauntlet.core.provenance.recipes import Recipe, read_marks
from gauntlet.reporting.aggregation import read_origins
from gauntlet.reporting.aggregation.origins import ORIGINS_SCHEMA
from tests.support.cells import make_cell

CELL = make_cell("evaluate", "digits", "softmax", 1, "pgd")


def test_a_row_holds_recipe_configuration_inputs_and_commit(tmp_path):
    """All is read from the cell's file, and ids are columns."""
    slice_ = {"experiment": "digits", "variant": "softmax", "seed": 1, "name": "pgd", "attack": {"steps": 40}}
    recipe = Recipe("evaluate", slice_, {"gauntlet.robustness.attacks": "12"}, {"data/manifest.json": "sha256:34"})
    made = {**recipe.metadata(), "gauntlet.commit": "c0ffee", "gauntlet.dirty": "true", "gauntlet.seconds": "1.5"}
    write_table(tmp_path / "samples.parquet", pa.table({"index": [1]}), made)
    table = read_origins({CELL: tmp_path / "samples.parquet"})
    assert table.schema == ORIGINS_SCHEMA
    (row,) = table.to_pylist()
    assert (row["stage"], row["variant"], row["seed"], row["name"]) == ("evaluate", "softmax", 1, "pgd")
    assert row["recipe"] == recipe.digest
    assert f"gauntlet-digest:{row['digest']}" == read_metadata(tmp_path / "samples.parquet")["gauntlet.digest"]
    assert json.loads(row["slice"]) == {"attack": {"steps": 40}}
    assert json.loads(row["inputs"]) == {"data/manifest.json": "sha256:34"}
    assert (row["commit"], row["dirty"], row["seconds"], row["finished"]) == ("c0ffee", "true", 1.5, None)


def test_the_table_is_not_taken_for_one_of_its_cells(tmp_path):
    """A search for marks finds the table's own, not those that it lists."""
    write_table(tmp_path / "samples.parquet", pa.table({"index": [1]}), Recipe("evaluate", {}, {}).metadata())
    own = Recipe("aggregate", {}, {})
    write_table(tmp_path / "origins.parquet", read_origins({CELL: tmp_path / "samples.parquet"}), own.metadata())
    assert read_marks(tmp_path / "origins.parquet").recipe == own.digest


def test_a_file_without_a_recipe_has_a_row_and_a_missing_one_is_refused(tmp_path):
    """The missing file is named."""
    write_table(tmp_path / "samples.parquet", pa.table({"index": [1]}), {})
    (row,) = read_origins({CELL: tmp_path / "samples.parquet"}).to_pylist()
    assert row["recipe"] is None
    assert row["slice"] == "{}"
    with pytest.raises(InputError, match="gone"):
        read_origins({CELL: tmp_path / "gone.parquet"})
