"""Parquet tables with the recipe that made them and a digest of their values."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table, table_digest, write_table
from gauntlet.core.provenance.recipes import Recipe, read_marks

TABLE = pa.table(
    {"index": pa.array([0, 1, 2]), "epsilon": pa.array([0.1, None, 0.3], pa.float32()), "s": ["a", "b", "c"]}
)
RECIPE = Recipe("evaluate", {"a": 1}, {})


def test_round_trip_keeps_values_and_recipe(tmp_path):
    """A table is read as it was written, and its footer holds the recipe."""
    write_table(tmp_path / "t.parquet", TABLE, RECIPE.metadata())
    assert read_table(tmp_path / "t.parquet") == TABLE
    assert read_marks(tmp_path / "t.parquet")[:2] == (RECIPE.digest, f"sha256:{table_digest(TABLE)}")
    assert read_metadata(tmp_path / "t.parquet")["gauntlet.cell"].endswith(RECIPE.digest)


def test_digest_depends_on_values_not_on_chunks_or_slices():
    """The digest depends on rows and their order, not on the memory layout."""
    chunked = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert table_digest(chunked) == table_digest(TABLE)
    assert table_digest(pa.concat_tables([TABLE, TABLE]).slice(3)) == table_digest(TABLE)
    assert table_digest(TABLE.slice(0, 2)) != table_digest(TABLE)
    assert table_digest(TABLE.take([1, 0, 2])) != table_digest(TABLE)


def test_a_value_edited_by_hand_is_refused(tmp_path):
    """A file whose values do not match its digest is refused by name."""
    path = tmp_path / "t.parquet"
    write_table(path, TABLE, RECIPE.metadata())
    metadata = pq.read_schema(path).metadata
    edited = TABLE.set_column(1, "epsilon", pa.array([None, None, None], pa.float32()))
    pq.write_table(edited.replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match=r"t\.parquet: the values are not those that were written"):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 9])
def test_a_damaged_file_is_named(tmp_path, content):
    """Bytes that are no parquet file are reported in one line."""
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.parquet: this is no whole parquet file"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="the file is missing"):
        read_table(tmp_path / "absent.parquet")


def test_a_truncated_file_is_refused(tmp_path):
    """A file truncated at any length is refused."""
    path = tmp_path / "t.parquet"
    write_table(path, TABLE, RECIPE.metadata())
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_table(path)


def test_volatile_columns_do_not_decide_the_digest(tmp_path):
    """Volatile columns such as seconds are not part of the digest."""
    for number, seconds in enumerate((1.0, 2.0)):
        timed = TABLE.append_column("seconds", pa.array([seconds] * 3))
        write_table(tmp_path / f"{number}.parquet", timed, {}, volatile=["seconds"])
        assert read_table(tmp_path / f"{number}.parquet") == timed
    assert read_marks(tmp_path / "0.parquet") == read_marks(tmp_path / "1.parquet")
