"""Parquet tables with a column of encoded images and one of labels, as on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gauntlet.core.errors import InputError, first_line, shortened
from gauntlet.learning.data.blocks import Block
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.labels import Labels, class_names, is_bytes, is_text, number_labels, read_labels, value_type
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.table_files import table_files
from gauntlet.learning.data.visible import expand
from gauntlet.registry import SOURCES, PositiveInt

_LABEL_COLUMNS = ("label", "labels", "fine_label")
_IMAGES_AT_ONCE = 16
"""Images per read: a column with 32-bit offsets has at most 2 GiB, so that images of up to 128 MiB can be read."""
_BLOCK_IMAGES, _BLOCK_BYTES = 128, 4 << 20
"""Number of images, and of their bytes, from which a block is decoded."""
_LABELS_AT_ONCE = 65_536
_BUFFER_BYTES = 1 << 20


@SOURCES.register(
    "parquet", folder="root", compared=True, source="the layout of image sets in the Hugging Face datasets library"
)
def parquet(
    *, root: str, image_column: str | None = None, label_column: str | None = None, size: PositiveInt | None = None
) -> RawData:
    """Read ``train*.parquet`` and, if they exist, ``validation*`` and ``test*`` in the folder `root` or below.

    Columns are recognized by their types unless named. Class names are read from the tables' metadata, and the tables
    may number them differently; without metadata the labels that occur in training are the classes, in sorted order.
    With `size` the shorter side is scaled to that many pixels and the center square is cropped. Raises InputError that
    names the folder, file, column or row. There may be test images only.
    """
    base = expand(root)
    if not base.is_dir():
        remedy = "set `root:` to the folder that contains train.parquet or train-00000-of-….parquet"
        raise InputError("there is no training table", where=str(base / "train*.parquet"), remedy=remedy)
    tables = {split: [_open(path) for path in paths] for split, paths in table_files(base).items()}
    schema = next(iter(tables.values()))[0].schema
    label = label_column or _label_column(schema, str(base))
    image = image_column or _image_column(schema, label, str(base))
    labels = {split: _labels(several, label) for split, several in tables.items()}
    classes, numbers = number_labels(labels, label)
    splits = {split: _split(several, image, numbers[split], size) for split, several in tables.items()}
    return RawData(splits.get("train"), splits.get("test"), splits.get("validation"), classes)


@dataclass(frozen=True)
class _Table:
    """A parquet file with its schema and number of rows."""

    path: Path
    schema: pa.Schema
    rows: int

    def type_of(self, column: str) -> pa.DataType:
        """Return the type of a column. Raises InputError if there is no such column, or two."""
        names = self.schema.names
        if names.count(column) != 1:
            problem = f"there is {'no' if column not in names else 'more than one'} column '{column}'"
            remedy = f"the columns are {shortened(names, most=20)}"
            raise InputError(problem, where=str(self.path), remedy=remedy)
        return self.schema.field(column).type

    def read(self, column: str, rows_at_once: int) -> Iterator[pa.Array]:
        """Yield a column, some rows at a time. Raises InputError if the file is damaged."""
        try:
            # By default a group of rows is read at once, and some files have a single one.
            with pq.ParquetFile(self.path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as opened:
                for batch in opened.iter_batches(rows_at_once, columns=[column]):
                    yield batch.column(column)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error

    def contents(self, column: str) -> Iterator[bytes | None]:
        """Yield the encoded image of each row, None where there is none."""
        for chunk in self.read(column, _IMAGES_AT_ONCE):
            for scalar in chunk:
                value = scalar.as_py()
                yield value["bytes"] if isinstance(value, dict) else value


def _open(path: Path) -> _Table:
    try:
        with pq.ParquetFile(path) as opened:
            return _Table(path, opened.schema_arrow, opened.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> InputError:
    problem = f"is damaged or not a parquet file ({shortened([first_line(error)])})"
    return InputError(problem, where=str(path), remedy="download it again")


def _columns(schema: pa.Schema) -> str:
    return shortened([f"{field.name}: {field.type}" for field in schema], most=20)


def _image_column(schema: pa.Schema, label: str, where: str) -> str:
    candidates = [field.name for field in schema if field.name != label and _holds_images(field.type)]
    return _only(candidates, "image", schema, where)


def _holds_images(kind: pa.DataType) -> bool:
    kind = value_type(kind)
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and is_bytes(value_type(kind.field(index).type))
    return is_bytes(kind)


def _label_column(schema: pa.Schema, where: str) -> str:
    well_known = [name for name in _LABEL_COLUMNS if name in schema.names]
    if well_known:
        return well_known[0]
    kinds = {field.name: value_type(field.type) for field in schema}
    candidates = [name for name, kind in kinds.items() if pa.types.is_integer(kind) or is_text(kind)]
    if not candidates:
        candidates = [name for name, kind in kinds.items() if pa.types.is_boolean(kind) or pa.types.is_floating(kind)]
    return _only(candidates, "label", schema, where)


def _only(candidates: list[str], kind: str, schema: pa.Schema, where: str) -> str:
    if len(candidates) != 1:
        problem = f"{len(candidates)} columns could be the {kind} ({_columns(schema)})"
        raise InputError(problem, where=where, remedy=f"set `{kind}_column:` to one of them")
    return candidates[0]


def _labels(tables: Sequence[_Table], column: str) -> list[Labels]:
    """Read the labels of a split's tables, without tables that have no rows."""
    read = []
    for table in tables:
        where, kind = str(table.path), table.type_of(column)
        if table.rows:
            values = pa.chunked_array(table.read(column, _LABELS_AT_ONCE), type=kind)
            names = class_names(table.schema.metadata, column, where)
            read.append(read_labels(values, names, column=column, where=where))
    if not read:
        raise InputError("is empty", where=str(tables[0].path), remedy="download it again, or remove the split")
    return read


def _split(tables: Sequence[_Table], column: str, labels: list[int], size: int | None) -> EncodedSplit:
    for table in tables:
        kind = table.type_of(column)
        if not _holds_images(kind):
            problem = f"column '{column}' ({kind}) has no encoded images"
            remedy = "the column must contain the bytes of image files"
            raise InputError(problem, where=str(table.path), remedy=remedy)

    def blocks() -> Iterator[Block]:
        for table in tables:
            contents: list[bytes | None] = []
            row = waiting = 0
            for content in table.contents(column):
                contents.append(content)
                waiting += len(content or b"")
                if len(contents) == _BLOCK_IMAGES or waiting >= _BLOCK_BYTES:
                    yield _block(contents, table, row, size)
                    contents, row, waiting = [], row + len(contents), 0
            if contents:
                yield _block(contents, table, row, size)

    return EncodedSplit(torch.tensor(labels, dtype=torch.int64), blocks, str(tables[0].path))


def _block(contents: list[bytes | None], table: _Table, row: int, size: int | None) -> Block:
    """Return the images of consecutive rows, the first of which is `row`."""
    return Block(contents, [f"{table.path}: row {row + number}" for number in range(len(contents))], size, upright=True)
