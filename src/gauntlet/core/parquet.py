"""Parquet files with the recipe that made them and a digest that reveals edits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gauntlet.core.errors import InputError, first_line
from gauntlet.core.files import atomic_path
from gauntlet.core.provenance.recipes import DIGEST_KEY, digest_mark

T = TypeVar("T")

VOLATILE_KEY = "gauntlet.volatile"


def table_digest(table: pa.Table) -> str:
    """Hash a table's schema and values; chunking, compression and metadata do not matter."""
    digest = hashlib.sha256()
    plain = table.replace_schema_metadata(None).combine_chunks()
    digest.update(str(plain.schema).encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        # A copy through `take` drops offsets and padding that slicing leaves in the buffers.
        writer.write_table(plain.take(pa.array(range(len(plain)), pa.int64())) if len(plain) else plain)
    digest.update(sink.getvalue())
    return digest.hexdigest()


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str], *, volatile: Sequence[str] = ()) -> None:
    """Write a table as parquet, atomically, with `metadata` and the digest of its content in the file's metadata.

    `volatile` columns (such as seconds) differ between identical runs, so the digest leaves them out.
    """
    digest = digest_mark(table_digest(table.drop_columns(list(volatile))))
    entries = {**metadata, DIGEST_KEY: digest, VOLATILE_KEY: ",".join(volatile)}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(entries), temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read a parquet file that `write_table` has written, without its metadata.

    Raises InputError when it is missing, damaged, or edited: its values do not match its digest.
    """
    table = _parquet(path, lambda: pq.ParquetFile(path).read())
    metadata = table.schema.metadata or {}
    volatile = [name for name in metadata.get(VOLATILE_KEY.encode(), b"").decode().split(",") if name]
    plain = table.replace_schema_metadata(None)
    stable = plain.drop_columns([name for name in volatile if name in plain.column_names])
    if metadata.get(DIGEST_KEY.encode(), b"").decode() != digest_mark(table_digest(stable)):
        raise InputError(
            "the values are not those that were written", where=str(path), remedy="delete the file and run again"
        )
    return plain


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Read those of some columns that a parquet file has, without checking its digest.

    Raises InputError when the file is missing or damaged.
    """

    def read() -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read(columns=[name for name in names if name in file.schema_arrow.names])

    return _parquet(path, read).replace_schema_metadata(None)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a parquet file. Raises InputError when the file is missing or damaged."""
    entries = _parquet(path, lambda: pq.read_schema(path).metadata) or {}
    return {key.decode(): value.decode() for key, value in entries.items() if not key.startswith(b"ARROW:")}


def _parquet(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy="run the stage that makes it") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise InputError(
            f"this is no whole parquet file ({reason})",
            where=str(path),
            remedy="if a run made it, delete it and run again",
        ) from error
