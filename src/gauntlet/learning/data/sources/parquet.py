"""Parquet tables with a column of encoded images and one of labels, as on the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gauntlet.core.errors import InputError
from gauntlet.learning.data.decoding import decode, stack
from gauntlet.learning.data.splits import RawData, Split
from gauntlet.registry import SOURCES, PositiveInt

_SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
_LABEL_COLUMNS = ("label", "labels", "fine_label")


@SOURCES.register("parquet", source="the layout of image sets in the Hugging Face datasets library")
def parquet(
    *, root: str, image_column: str | None = None, label_column: str | None = None, size: PositiveInt | None = None
) -> RawData:
    """Read ``train*.parquet`` and, if they exist, ``validation*`` and ``test*`` in the folder `root` or below.

    Columns are recognized by their types unless named. Class names are read from the tables' metadata; without it
    string labels are numbered in sorted order, and integer labels serve as names. With `size` the shorter side is
    scaled to that many pixels and the center square is cropped. Raises InputError that names the folder, file, column
    or row.
    """
    base = Path(root)
    files = {split: _files(base, names) for split, names in _SPLIT_NAMES.items()}
    if not files["train"]:
        remedy = "set `root:` to the folder that contains train.parquet or train-00000-of-….parquet"
        raise InputError("there is no training table", where=str(base / "train*.parquet"), remedy=remedy)
    tables = {split: _table(paths) for split, paths in files.items() if paths}
    schema = tables["train"].schema
    image = image_column or _image_column(schema, root)
    label = label_column or _label_column(schema, root)
    classes = _classes(tables, label, root)
    splits = {
        split: _split(table, str(files[split][0]), image, label, classes, size) for split, table in tables.items()
    }
    return RawData(splits["train"], splits.get("test"), splits.get("validation"), classes)


def _files(base: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the files of the first name that has any: ``train.parquet``, ``train-00000-of-00002.parquet``."""
    for name in names:
        files = sorted(
            file
            for file in base.rglob("*.parquet")
            if file.stem == name or file.stem.startswith((f"{name}-", f"{name}_"))
        )
        if files:
            return files
    return []


def _table(paths: list[Path]) -> pa.Table:
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path))
        except (pa.ArrowException, OSError) as error:
            remedy = "download it again"
            raise InputError("is damaged or not a parquet file", where=str(path), remedy=remedy) from error
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        problem = "its columns differ from those of the files before it"
        raise InputError(problem, where=str(paths[-1])) from error


def _image_column(schema: pa.Schema, where: str) -> str:
    candidates = [
        field.name
        for field in schema
        if pa.types.is_binary(field.type)
        or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
    ]
    return _only(candidates, "image", schema, where)


def _label_column(schema: pa.Schema, where: str) -> str:
    well_known = [name for name in _LABEL_COLUMNS if name in schema.names]
    if well_known:
        return well_known[0]
    candidates = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_string(field.type)]
    return _only(candidates, "label", schema, where)


def _only(candidates: list[str], kind: str, schema: pa.Schema, where: str) -> str:
    if len(candidates) != 1:
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        problem = f"{len(candidates)} columns could be the {kind} ({columns})"
        raise InputError(problem, where=where, remedy=f"set `{kind}_column:` to one of them")
    return candidates[0]


def _classes(tables: dict[str, pa.Table], label: str, where: str) -> tuple[str, ...]:
    for table in tables.values():
        if label not in table.column_names:
            columns = ", ".join(table.column_names)
            raise InputError(f"there is no column '{label}'", where=where, remedy=f"the columns are {columns}")
    names = _class_names(tables["train"].schema, label)
    if names:
        return names
    values: list[Any] = sorted(
        {value for table in tables.values() for value in table[label].unique().to_pylist()}, key=str
    )
    if all(isinstance(value, str) for value in values):
        return tuple(values)
    if not all(isinstance(value, int) and value >= 0 for value in values):
        examples = ", ".join(map(repr, values[:5]))
        remedy = "labels must be class names or numbers from 0"
        raise InputError(f"column '{label}' contains {examples}, …", where=where, remedy=remedy)
    return tuple(str(value) for value in range(max(values) + 1))


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Read the class names from the metadata that the `datasets` library writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _split(table: pa.Table, where: str, image: str, label: str, classes: tuple[str, ...], size: int | None) -> Split:
    if image not in table.column_names:
        columns = ", ".join(table.column_names)
        raise InputError(f"there is no column '{image}'", where=where, remedy=f"the columns are {columns}")
    column = table[image].combine_chunks()
    encoded = column.field("bytes") if pa.types.is_struct(column.type) else column
    names = [f"{where}: row {row}" for row in range(len(table))]
    arrays = []
    for value, name in zip(encoded, names, strict=True):
        content = value.as_py()
        if content is None:
            remedy = "the table must contain the encoded images, not their paths"
            raise InputError("has no image bytes", where=name, remedy=remedy)
        arrays.append(decode(content, where=name, size=size))
    numbers = {name: number for number, name in enumerate(classes)}
    values = table[label].to_pylist()
    labels = [numbers.get(value, -1) if isinstance(value, str) else value for value in values]
    if not arrays or None in labels:
        raise InputError("is empty" if not arrays else f"column '{label}' lacks values", where=where)
    return Split(stack(arrays, names), torch.tensor(labels, dtype=torch.int64))
