"""One parquet file with all samples of all cells, streamed: at most one cell and one row group are in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.files import atomic_path
from gauntlet.core.parquet import read_metadata, read_table, table_digest
from gauntlet.core.provenance.recipes import digest_mark
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.reporting.aggregation.cell_ids import C, CellIds
from gauntlet.reporting.aggregation.design import ExperimentDesign

STREAM_DIGEST_KEY = "gauntlet.stream_digest"
"""Digest of the rows, whatever their compression: other files depend on it."""

BYTES_DIGEST_KEY = "gauntlet.bytes_digest"
"""Digest of the bytes before the footer: readers check it."""

ROW_GROUP_ROWS = 1 << 17
_BLOCK_BYTES = 1 << 20

_STATUSES = {
    "attack": ("adversarial", "robust", "already_wrong", "error"),
    "certificate": ("certified", "abstained", "already_wrong"),
}


def combine(
    files: Mapping[C, Path],
    out: Path,
    *,
    design: ExperimentDesign,
    metadata: Mapping[str, str] | None = None,
    allow_missing: bool = False,
) -> list[C]:
    """Write the rows of all cells into one file and return the missing cells.

    Cells are in the order of `files`, samples in the order of their index. The cells are all evaluations or all
    certificates of one experiment. Each file's digest is verified, and that its rows belong to its cell. The metadata
    of the result are the design, `metadata`, and digests of its rows and bytes.

    Raises GauntletError that names the missing cells unless `allow_missing`, InputError for a file that holds another
    cell, a sample twice, impossible values, or other samples than the cells before it.
    """
    missing = [cell for cell, path in files.items() if not path.is_file()]
    if missing and not allow_missing:
        raise GauntletError(
            f"{len(missing)} of {len(files)} cells are missing: {_listed(missing)}",
            where=design.experiment,
            remedy="start the run again, or set `allow_missing: true`",
        )
    keys = {cell.stage.key for cell in files}
    schema = CERTIFICATE_SCHEMA if keys == {"certificate"} else EVALUATION_SCHEMA
    if len(keys) > 1 or {cell.experiment for cell in files} - {design.experiment}:
        raise GauntletError("cells of several kinds or experiments cannot be combined", where=str(out))
    described = schema.with_metadata({**(metadata or {}), **design.metadata()})
    present = {cell: path for cell, path in files.items() if path.is_file()}
    with (
        atomic_path(out) as temporary,
        _HashingWriter(temporary) as file,
        pq.ParquetWriter(file, described, compression="zstd") as writer,
    ):
        digest = hashlib.sha256()
        samples_of = {attack.name: attack.samples for attack in design.attacks}
        for group in _row_groups(_checked_cells(present, schema, samples_of), schema):
            writer.write_table(group.cast(described), row_group_size=ROW_GROUP_ROWS)
            digest.update(table_digest(group).encode())
        digests = {STREAM_DIGEST_KEY: digest_mark(digest.hexdigest()), BYTES_DIGEST_KEY: file.digest.hexdigest()}
        writer.add_key_value_metadata(digests)
    return missing


def verify_combined(path: Path) -> bool:
    """Check that the rows of a combined file are those that were written, once per process and version of the file.

    Hashes the bytes of the data pages, about 1 s per GB, which is far cheaper than decoding them. Returns False for a
    file without a digest of its bytes (made elsewhere, or empty), which cannot be checked so.

    Raises InputError when the file is missing, damaged, or was changed.
    """
    read_metadata(path)  # raises for a missing or damaged file
    # Entries added when the file is closed are not in its schema, which `read_metadata` reads.
    recorded = (pq.read_metadata(path).metadata or {}).get(BYTES_DIGEST_KEY.encode())
    if recorded is not None:
        status = path.stat()
        _verify_bytes(path, recorded.decode(), (status.st_ino, status.st_mtime_ns, status.st_size))
    return recorded is not None


@lru_cache
def _verify_bytes(path: Path, recorded: str, version: tuple[int, int, int]) -> None:
    digest, size = hashlib.sha256(), version[-1]
    with path.open("rb") as file:
        # A parquet file ends with its footer, the footer's length in 4 bytes, and 4 bytes of magic.
        file.seek(size - 8)
        remaining = size - 8 - int.from_bytes(file.read(4), "little")
        file.seek(0)
        while block := file.read(min(_BLOCK_BYTES, remaining)):
            digest.update(block)
            remaining -= len(block)
    if digest.hexdigest() != recorded:
        raise InputError("the values are not those that were written", where=str(path), remedy="aggregate again")


class _HashingWriter(io.BufferedWriter):
    """A binary file with the SHA-256 of the bytes written so far."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and hash some bytes."""
        self.digest.update(data)
        return super().write(data)


def _checked_cells(
    files: Mapping[C, Path], schema: pa.Schema, samples_of: Mapping[str, int | None]
) -> Iterator[pa.Table]:
    """Yield the rows of each cell, verified against its digest and against the samples of the cells before it.

    `samples_of` maps attacks to the number of their samples, None for all. Cells with the same number must have the
    same samples, and a cell with fewer the first ones of a cell with more.
    """
    fewer = sorted({samples for samples in samples_of.values() if samples is not None})
    references: dict[int | None, tuple[str, Path]] = {}
    for cell, path in files.items():
        table = read_table(path)
        _check_cell(table, schema, cell, path)
        table = table.take(pc.sort_indices(table, sort_keys=[("index", "ascending")]))
        own = samples_of.get(cell.name)
        samples = table.select(["index", "label", "sample_hash"])
        parts = {number: samples.slice(0, number) for number in fewer if own is None or number < own}
        for number, part in [(own, samples), *parts.items()]:
            digest = table_digest(part)
            reference, other = references.setdefault(number, (digest, path))
            if digest != reference:
                raise InputError(
                    f"it holds other samples than {other}", where=str(path), remedy="make both from the same data"
                )
        yield table


def _row_groups(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield full row groups, so that many small cells do not make many small groups."""
    pending = schema.empty_table()
    for table in tables:
        pending = pa.concat_tables([pending, table])
        while len(pending) >= ROW_GROUP_ROWS:
            yield pending.slice(0, ROW_GROUP_ROWS).combine_chunks()
            pending = pending.slice(ROW_GROUP_ROWS)
    if len(pending):
        yield pending.combine_chunks()


def _check_cell(table: pa.Table, schema: pa.Schema, cell: CellIds, path: Path) -> None:
    where, remedy = str(path), "delete the file and run again"
    if table.schema != schema:
        raise InputError("the columns are not those of this version", where=where, remedy=remedy)
    if not len(table):
        raise InputError("there are no rows", where=where, remedy=remedy)
    name_column = "certificate" if schema is CERTIFICATE_SCHEMA else "attack"
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, name_column: cell.name}
    for column, value in ids.items():
        values = table[column].unique().to_pylist()
        if values != [value]:
            names = ", ".join(map(str, values[:3]))
            raise InputError(f"{column} is {names}, not {value}: this is another cell", where=where, remedy=remedy)
    if len(table["norm"].unique()) != 1:
        raise InputError("the rows disagree on the norm", where=where, remedy=remedy)
    if pc.count_distinct(table["index"], mode="all").as_py() != len(table):
        raise InputError("a sample appears twice", where=where, remedy=remedy)
    unknown = sorted({str(value) for value in table["status"].unique().to_pylist()} - set(_STATUSES[name_column]))
    if unknown:
        raise InputError(f"unknown status '{unknown[0]}'", where=where, remedy=remedy)
    if name_column == "attack":
        _check_budgets(table, where, remedy)
    elif not _holds(pc.and_(pc.is_finite(table["radius"]), pc.greater_equal(table["radius"], 0.0))):
        raise InputError("a radius is negative, infinite or not a number", where=where, remedy=remedy)


def _check_budgets(table: pa.Table, where: str, remedy: str) -> None:
    """Raise for budgets that contradict the status: NaN compares as greater than every ε and would count as robust."""
    epsilon, status = table["epsilon"], table["status"]
    finite = pc.and_(pc.is_finite(epsilon), pc.greater_equal(epsilon, 0.0))
    fooled = pc.and_(pc.is_valid(epsilon), finite)
    consistent = pc.case_when(
        pc.make_struct(pc.equal(status, "error"), pc.equal(status, "robust"), pc.equal(status, "already_wrong")),
        pa.array([True] * len(table)),
        pc.is_null(epsilon),
        pc.and_(fooled, pc.equal(epsilon, 0.0)),
        fooled,
    )
    if not _holds(consistent):
        raise InputError("an epsilon contradicts its row's status", where=where, remedy=remedy)


def _holds(condition: pa.ChunkedArray) -> bool:
    """Return whether a condition is true in every row; null is not true."""
    return bool(pc.all(pc.fill_null(condition, False)).as_py())


def _listed(cells: list[C], most: int = 8) -> str:
    names = "; ".join(str(cell) for cell in cells[:most])
    return names if len(cells) <= most else f"{names}; and {len(cells) - most} more"
