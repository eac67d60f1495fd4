"""Class labels of tables: of any type that can mean one class per image, numbered alike in every split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from gauntlet.core.errors import InputError, shortened

Label = int | str


@dataclass(frozen=True)
class Labels:
    """Labels of one file: a name or a whole number per row, and the class names of the file's metadata, if any.

    With `names` each value is one of them.
    """

    values: Sequence[Label]
    names: tuple[str, ...]
    where: str

    @property
    def numbered(self) -> bool:
        """True if the labels are numbers without names, so that their values are all that is known of the classes."""
        return not self.names and isinstance(self.values[0], int)


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values: of the categories of a dictionary, of the storage of an extension."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return value_type(kind.value_type)
    return value_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a type is one of byte strings."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def class_names(metadata: Mapping[bytes, bytes] | None, column: str, where: str) -> tuple[str, ...]:
    """Read the class names that the `datasets` library writes to a file's metadata; empty if there are none.

    Raises InputError for a name that occurs twice.
    """
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
        if isinstance(names, dict):
            names = [names[str(number)] for number in range(len(names))]
        names = tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return ()
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        problem = f"the metadata of column '{column}' names a class twice: {shortened(twice)}"
        raise InputError(problem, where=where, remedy="write the metadata with a different name for each class")
    return names


def read_labels(values: pa.ChunkedArray, names: tuple[str, ...], *, column: str, where: str) -> Labels:
    """Convert a column of labels to names or whole numbers.

    Raises InputError for types and values that do not mean one class per image, with the column and the row.
    """
    kind = value_type(values.type)
    if pa.types.is_nested(kind):
        raise _nested(values, column, where)
    converted = [_label(value) for value in values.to_pylist()]
    for row, label in enumerate(converted):
        if label is None:
            value = values[row].as_py()
            if value is None or value != value:
                missing = sum(one is None for one in converted)
                problem = f"column '{column}' lacks values ({missing} of {len(converted)}, the first in row {row})"
                raise InputError(problem, where=where, remedy="remove these rows, or give them a label")
            problem = f"column '{column}' ({values.type}) contains {shortened([repr(value)])} in row {row}"
            remedy = "labels must be class names or whole numbers; set `label_column:` if another column has them"
            raise InputError(problem, where=where, remedy=remedy)
    return Labels(_named(converted, names, column, where), names, where)  # type: ignore[arg-type]


def _label(value: Any) -> Label | None:
    """Return a value as a class name or a whole number; None if it is neither."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            return None
    if isinstance(value, (float, Decimal)):
        return int(value) if value == value and value % 1 == 0 else None
    return (value or None) if isinstance(value, str) else value if isinstance(value, int) else None


def _nested(values: pa.ChunkedArray, column: str, where: str) -> InputError:
    rows = [row for row in values.slice(0, 100_000).to_pylist() if isinstance(row, list)]
    # Lists of two numbers, such as [0, 1] in every row, may be the numbers of two classes.
    if all(map(_is_one_hot, rows)) and len({tuple(row) for row in rows}) > 1:
        problem = f"column '{column}' ({values.type}) contains one-hot vectors"
        return InputError(problem, where=where, remedy="store the number of the class instead: the position of the 1")
    problem = f"column '{column}' ({values.type}) does not have one label per image"
    remedy = "store one class name or number per image, or set `label_column:` to a column that has one"
    return InputError(problem, where=where, remedy=remedy)


def _is_one_hot(row: list[Any]) -> bool:
    return all(isinstance(value, (bool, int, float)) and value in (0, 1) for value in row) and sum(row) == 1


def _named(labels: Sequence[Label | None], names: tuple[str, ...], column: str, where: str) -> Sequence[Label | None]:
    """Replace class numbers by the names of the metadata. Raises InputError for a number or name that has none."""
    if not names:
        return labels
    known = set(names)
    named = [
        (names[label] if 0 <= label < len(names) else None)
        if isinstance(label, int)
        else (label if label in known else None)
        for label in labels
    ]
    unnamed = [label for label, name in zip(labels, named, strict=True) if name is None]
    if unnamed:
        numbers = f"the names of {len(names)} classes, numbered from 0"
        problem = f"column '{column}' contains {shortened(_unique(unnamed))}, but its metadata has {numbers}"
        remedy = "remove the images without a label" if unnamed[0] == -1 else "correct the labels or the metadata"
        raise InputError(problem, where=where, remedy=remedy)
    return named


def number_labels(splits: Mapping[str, Sequence[Labels]], column: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Number the labels of all splits alike; `splits` has the files of each split, first that whose labels are classes.

    Returns the class names and, per split, the class of each row. Classes of metadata keep their order in the first
    training file; other files may name the same classes in another order. Classes without metadata are the labels
    that occur in training, in sorted order.

    Raises InputError if files disagree about the classes, or a label does not occur in training.
    """
    if any(not labels.names for several in splits.values() for labels in several):
        splits = {split: [_plain(labels) for labels in several] for split, several in splits.items()}
    reference = next(iter(splits))
    first = splits[reference][0]
    for several in splits.values():
        for labels in several:
            _check_same(first, labels, column)
    ordered: Sequence[Any] = first.names or sorted({value for labels in splits[reference] for value in labels.values})
    if first.numbered:
        _check_negative(ordered, column, first.where)
    numbers = {label: number for number, label in enumerate(ordered)}
    rows: dict[str, list[int]] = {}
    for split, several in splits.items():
        rows[split] = []
        for labels in several:
            absent = [label for label in _unique(labels.values) if label not in numbers]
            if absent:
                problem = f"column '{column}' contains labels that do not occur in training: {shortened(absent)}"
                remedy = f"the training labels are {shortened(ordered)}; remove these images, or add such images there"
                raise InputError(problem, where=labels.where, remedy=remedy)
            rows[split] += [numbers[label] for label in labels.values]
    return tuple(str(label) for label in ordered), rows


def _plain(labels: Labels) -> Labels:
    """Return labels whose names only repeat their numbers ("0", "1", …) as numbers without names."""
    if labels.names and all(name == str(number) for number, name in enumerate(labels.names)):
        return Labels([int(value) for value in labels.values], (), labels.where)
    return labels


def _check_same(first: Labels, labels: Labels, column: str) -> None:
    """Raise InputError if a file's labels cannot be compared with those of the first training file."""
    if first.names and labels.names and set(first.names) != set(labels.names):
        only = [sorted(set(a.names) - set(b.names)) for a, b in ((labels, first), (first, labels))]
        differences = [
            f"{kind} {shortened(names)}" for kind, names in zip(("has", "lacks"), only, strict=True) if names
        ]
        problem = f"the classes in the metadata of column '{column}' are not those of {first.where}"
        raise InputError(
            f"{problem}: it {' and '.join(differences)}", where=labels.where, remedy="use the same classes"
        )
    if bool(first.names) != bool(labels.names):
        named, numbered = (first, labels) if first.names else (labels, first)
        if numbered.numbered:
            problem = f"column '{column}' has numbers without class names, that of {named.where} has names"
            remedy = "write the class names to the metadata of all tables, so that the numbers can be compared"
            raise InputError(problem, where=numbered.where, remedy=remedy)
    elif first.numbered != labels.numbered:
        numbers = "numbers" if labels.numbered else "names"
        problem = (
            f"column '{column}' contains {numbers}, that of {first.where} {'names' if labels.numbered else 'numbers'}"
        )
        raise InputError(problem, where=labels.where, remedy="use the same labels in all tables")


def _check_negative(ordered: Sequence[int], column: str, where: str) -> None:
    negative = [label for label in ordered if label < 0]
    if negative and list(ordered) != [-1, 1]:
        problem = f"column '{column}' contains {shortened(negative)}, which usually marks images without a label"
        raise InputError(problem, where=where, remedy="remove these images, or use numbers from 0 or class names")


def _unique(labels: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(labels))
