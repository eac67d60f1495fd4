"""Combination of cells into one file: order, verification, and refusals."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.reporting.aggregation import (
    certified_accuracies,
    combine,
    compare_variants,
    design_from_metadata,
    summarize,
)
from gauntlet.reporting.aggregation import combination as combined
from gauntlet.reporting.aggregation.combination import verify_combined
from tests.support import synthetic
from tests.support.cells import make_cell

PLAN = synthetic.plan(variants=("softmax", "ecc"), seeds=(0, 1), attacks=synthetic.ATTACKS[:2])


@pytest.fixture
def files(tmp_path):
    """The cells of a small experiment."""
    return synthetic.write_evaluations(tmp_path / "cells", PLAN, samples=30)


def _replace(path, column, values):
    table = read_table(path)
    field = table.schema.field(column)
    write_table(path, table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type)), {})


def test_rows_are_ordered_by_cell_and_sample(files, tmp_path):
    """The order of rows within a cell's file does not matter."""
    shuffled = next(iter(files.values()))
    table = read_table(shuffled)
    write_table(shuffled, table.take(pa.array(range(len(table) - 1, -1, -1))), {})
    out = tmp_path / "evaluations.parquet"
    combine(files, out, design=PLAN)
    expected = pa.concat_tables([read_table(path).sort_by("index") for path in files.values()])
    assert pq.ParquetFile(out).read().replace_schema_metadata(None).equals(expected)


@pytest.mark.parametrize("row_group", [7, 30, 50, 1000])
def test_cells_are_regrouped_without_loss(files, tmp_path, monkeypatch, row_group):
    """Row groups of any size hold the same rows, only the last is short, and the digest fits."""
    monkeypatch.setattr(combined, "ROW_GROUP_ROWS", row_group)
    out = tmp_path / "evaluations.parquet"
    combine(files, out, design=PLAN)
    verify_combined(out)
    parquet = pq.ParquetFile(out)
    sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
    assert sum(sizes) == 30 * len(files)
    assert all(size == row_group for size in sizes[:-1])
    indices = parquet.read()["index"].to_pylist()
    assert indices == list(range(30)) * len(files)


def test_the_same_cells_give_the_same_bytes(files, tmp_path):
    """Time, folder and order of writing do not change the file."""
    combine(files, tmp_path / "a.parquet", design=PLAN, metadata={"made": "by hand"})
    combine(files, tmp_path / "b.parquet", design=PLAN, metadata={"made": "by hand"})
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_file_holds_its_plan_and_recipe(files, tmp_path):
    """Order of variants and budgets are read back from the file."""
    combine(files, tmp_path / "out.parquet", design=PLAN, metadata={"gauntlet.commit": "abc"})
    metadata = read_metadata(tmp_path / "out.parquet")
    assert metadata["gauntlet.commit"] == "abc"
    assert design_from_metadata(metadata) == PLAN


def test_an_edited_file_is_detected(files, tmp_path):
    """A changed number breaks the digest, also if the metadata is copied."""
    out = tmp_path / "out.parquet"
    combine(files, out, design=PLAN)
    table = pq.ParquetFile(out).read()
    metadata = pq.read_metadata(out).metadata
    status = table["status"].to_pylist()
    status[5] = "error"
    edited = table.set_column(table.schema.get_field_index("status"), "status", pa.array(status))
    pq.write_table(edited.replace_schema_metadata(metadata), out)
    for read in (verify_combined, summarize, compare_variants):
        with pytest.raises(InputError, match="not those that were written"):
            read(out)


def test_an_edited_byte_is_detected_after_the_file_was_read(files, tmp_path):
    """A file is checked once per version: an edit that leaves the size is a new version."""
    out = tmp_path / "out.parquet"
    combine(files, out, design=PLAN)
    os.utime(out, (0, 0))
    verify_combined(out)
    content = bytearray(out.read_bytes())
    content[len(content) // 3] ^= 1
    out.write_bytes(content)
    with pytest.raises(InputError, match="not those that were written"):
        verify_combined(out)


def test_edited_certificates_are_detected(tmp_path):
    """Certified accuracies and comparisons refuse an edited file."""
    made = synthetic.write_experiment(tmp_path, synthetic.plan(seeds=(0,)), samples=20)
    certified = certified_accuracies(made.certificates)
    table, metadata = pq.ParquetFile(made.certificates).read(), pq.read_metadata(made.certificates).metadata
    radius = pc.add(table["radius"], pa.scalar(0.1))
    edited = table.set_column(table.schema.get_field_index("radius"), "radius", radius)
    pq.write_table(edited.replace_schema_metadata(metadata), made.certificates)
    with pytest.raises(InputError, match="not those that were written"):
        certified_accuracies(made.certificates)
    with pytest.raises(InputError, match="not those that were written"):
        compare_variants(made.evaluations, made.certificates, certified=certified)


def test_a_truncated_file_is_detected(files, tmp_path):
    """Half a file is refused."""
    out = tmp_path / "out.parquet"
    combine(files, out, design=PLAN)
    out.write_bytes(out.read_bytes()[:-100])
    with pytest.raises(InputError, match="parquet"):
        verify_combined(out)


def test_missing_cells_are_named_and_refused(files, tmp_path):
    """The error names the missing cell and the option that allows it."""
    gone = list(files)[3]
    files[gone].unlink()
    with pytest.raises(GauntletError, match=r"1 of 8 .*variant=softmax seed=1 attack=pgd.*allow_missing"):
        combine(files, tmp_path / "out.parquet", design=PLAN)
    assert not (tmp_path / "out.parquet").exists()


def test_missing_cells_are_returned_when_allowed(files, tmp_path):
    """The other cells are combined."""
    gone = list(files)[3]
    files[gone].unlink()
    assert combine(files, tmp_path / "out.parquet", design=PLAN, allow_missing=True) == [gone]
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 30 * 7


def test_a_moved_cell_is_refused(files, tmp_path):
    """A file copied to another cell's path is refused, so that no cell counts twice."""
    first, second = list(files)[:2]
    files[second].write_bytes(files[first].read_bytes())
    with pytest.raises(InputError, match="attack is fgsm, not pgd"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


@pytest.mark.parametrize("column", ["experiment", "variant", "seed"])
def test_every_part_of_a_cells_name_is_checked(files, tmp_path, column):
    """Experiment, variant and seed in the rows must be those of the cell."""
    path = next(iter(files.values()))
    _replace(path, column, [7 if column == "seed" else "other"] * 30)
    with pytest.raises(InputError, match=f"{column} is"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


def test_a_repeated_sample_is_refused(files, tmp_path):
    """A repeated row is refused."""
    _replace(next(iter(files.values())), "index", [0, *range(29)])
    with pytest.raises(InputError, match="twice"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


@pytest.mark.parametrize(("column", "value"), [("sample_hash", "f" * 16), ("label", 11)])
def test_cells_on_other_samples_are_refused(files, tmp_path, column, value):
    """All cells must have the same samples, since the worst case joins them."""
    path = list(files.values())[2]
    values = read_table(path)[column].to_pylist()
    values[0] = value
    _replace(path, column, values)
    with pytest.raises(InputError, match="other samples"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


@pytest.mark.parametrize(
    ("status", "epsilon"),
    [
        ("robust", 0.1),
        ("adversarial", None),
        ("adversarial", float("nan")),
        ("adversarial", float("inf")),
        ("adversarial", -0.1),
        ("already_wrong", 0.1),
        ("already_wrong", None),
    ],
)
def test_budgets_that_contradict_the_status_are_refused(files, tmp_path, status, epsilon):
    """A NaN budget, which would compare as robust at every ε, is refused."""
    path = next(iter(files.values()))
    table = read_table(path)
    _replace(path, "status", [status, *table["status"].to_pylist()[1:]])
    _replace(path, "epsilon", [epsilon, *table["epsilon"].to_pylist()[1:]])
    with pytest.raises(InputError, match="contradicts"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


def test_an_unknown_status_is_refused(files, tmp_path):
    """Only the four statuses are accepted."""
    _replace(next(iter(files.values())), "status", ["robst"] * 30)
    with pytest.raises(InputError, match="robst"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


def test_an_edited_cell_is_refused(files, tmp_path):
    """Each cell's digest is verified before its rows are used."""
    path = next(iter(files.values()))
    table, metadata = pq.ParquetFile(path).read(), pq.read_metadata(path).metadata
    changed = table.set_column(
        table.schema.get_field_index("forwards"), "forwards", pc.add(table["forwards"], pa.scalar(1, pa.int64()))
    )
    pq.write_table(changed.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match="not those that were written"):
        combine(files, tmp_path / "out.parquet", design=PLAN)


def test_certificates_are_combined_too(tmp_path):
    """Certificates have their own columns, and an impossible radius is refused."""
    cell = make_cell("certify", "digits", "lipschitz", 0, "margin")
    path = tmp_path / "margin.parquet"
    write_table(path, synthetic.certificate(cell, samples=20), {})
    combine({cell: path}, tmp_path / "out.parquet", design=PLAN)
    assert pq.ParquetFile(tmp_path / "out.parquet").read().replace_schema_metadata(None).equals(read_table(path))
    _replace(path, "radius", [-0.5] * 20)
    with pytest.raises(InputError, match="radius"):
        combine({cell: path}, tmp_path / "out.parquet", design=PLAN)


def test_evaluations_and_certificates_do_not_mix(files, tmp_path):
    """A file with both kinds of rows is refused."""
    files[make_cell("certify", "digits", "softmax", 0, "margin")] = next(iter(files.values()))
    with pytest.raises(GauntletError, match="several kinds"):
        combine(files, tmp_path / "out.parquet", design=PLAN)
