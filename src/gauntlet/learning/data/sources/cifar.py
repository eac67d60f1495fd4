"""CIFAR-10 and CIFAR-100, and ciFAIR-10 and ciFAIR-100 without near-duplicates, from their published files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gauntlet.core.errors import InputError, first_line
from gauntlet.learning.data.cifar_layouts import Layout, find_layout
from gauntlet.learning.data.plain_pickles import REMEDY, integer_array, read_plain_pickle
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.visible import expand
from gauntlet.registry import SOURCES

log = logging.getLogger("gauntlet")

_SHAPE = (3, 32, 32)
_IMAGE_BYTES = 3072
_PUBLISHED_IMAGES = {"training": 50_000, "test": 10_000}
_TEST_FILES = {
    "40351d587109b95175f43aff81a1287e": "CIFAR-10",
    "f0ef6b0ae62326f3e7ffdfab6717acfc": "CIFAR-100",
    "01290e6b622a1977a000eff13650aca2": "ciFAIR-10",
    "8130dae8d6fc6a436437f0ebdb801df1": "ciFAIR-100",
}
"""Data sets by the MD5 of their test file in the Python version: ciFAIR differs from CIFAR in this file alone."""

Batch = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Images uint8 `(N, 3072)`, labels int64 `(N,)`."""


@SOURCES.register(
    "cifar",
    folder="root",
    compared=True,
    side=32,
    channels=3,
    source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; "
    "Barz and Denzler 2020, Do We Train on Test Data?, arXiv:1902.00423",
)
def cifar(*, root: str, coarse: bool = False) -> RawData:
    """Read CIFAR-10, CIFAR-100, ciFAIR-10 or ciFAIR-100 from the files of its Python or binary version.

    They are in the folder `root`, or in a folder in it. With `coarse` the classes are the 20 superclasses of CIFAR-100.
    No pickle is executed. Raises InputError that names the folder or file.
    """
    base = expand(root)
    if not base.is_dir():
        raise InputError("there is no such folder", where=root, remedy="set `root:` to the folder with CIFAR's files")
    kind = "coarse" if coarse else "fine"
    folder, layout = find_layout(base, kind)
    classes = _class_names(folder, layout, kind)
    train = _split("training", (_batch(folder / name, layout, kind, classes) for name in layout.train), folder)
    test = _split("test", [_batch(folder / layout.test, layout, kind, classes)], folder)
    name = _TEST_FILES.get(hashlib.md5(_content(folder / layout.test), usedforsecurity=False).hexdigest())
    if name is not None:
        log.info("%s: the test images are those of %s", folder, name)
    return RawData(train, test, None, classes)


def _split(name: str, batches: Iterable[Batch], folder: Path) -> Split:
    images, labels = zip(*batches, strict=True)
    split = Split(
        torch.from_numpy(np.concatenate(images).reshape(-1, *_SHAPE)), torch.from_numpy(np.concatenate(labels))
    )
    published = _PUBLISHED_IMAGES[name]
    if len(split) != published:
        log.warning("%s: %d %s images; the published set has %d", folder, len(split), name, published)
    return split


def _class_names(folder: Path, layout: Layout, kind: str) -> tuple[str, ...]:
    place = layout.labels[kind]
    path = folder / place.names_file
    if layout.version == "Python":
        key = f"{place.key.removesuffix('s')}_names"
        names = _entry(read_plain_pickle(_content(path), str(path)), key, path)
        if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
            raise InputError(f"has no list of names under '{key}'", where=str(path), remedy=REMEDY)
        return tuple(name.decode("latin-1") if isinstance(name, bytes) else name for name in names)
    try:
        lines = _content(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise InputError("is not text", where=str(path), remedy="expected one class name per line") from error
    return tuple(line.strip() for line in lines if line.strip())


def _batch(path: Path, layout: Layout, kind: str, classes: tuple[str, ...]) -> Batch:
    """Read one file. Raises InputError, which names it, for another size or type, and for labels without a name."""
    read = _pickled if layout.version == "Python" else _binary
    images, labels = read(path, layout, kind)
    unknown = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(unknown):
        problem = f"image {unknown[0]} has the label {labels[unknown[0]]}"
        remedy = f"{layout.labels[kind].names_file} names {len(classes)} classes, numbered from 0"
        raise InputError(problem, where=str(path), remedy=remedy)
    return images, labels


def _binary(path: Path, layout: Layout, kind: str) -> Batch:
    content = np.frombuffer(_content(path), np.uint8)
    label_bytes = len(layout.labels)
    record = label_bytes + _IMAGE_BYTES
    if not len(content) or len(content) % record:
        published = _PUBLISHED_IMAGES["test" if path.name == layout.test else "training"]
        size = record * published // (1 if path.name == layout.test else len(layout.train))
        remedy = f"{layout.title} has {record} bytes per image, {size} in this file; {REMEDY}"
        raise InputError(f"has {len(content)} bytes", where=str(path), remedy=remedy)
    records = content.reshape(-1, record)
    return records[:, label_bytes:], records[:, layout.labels[kind].byte].astype(np.int64)


def _pickled(path: Path, layout: Layout, kind: str) -> Batch:
    where, key = str(path), layout.labels[kind].key
    batch = read_plain_pickle(_content(path), where)
    images = integer_array(_entry(batch, "data", path), where)
    labels = integer_array(_entry(batch, key, path), where)
    if images.dtype != np.uint8 or images.shape != (len(labels), _IMAGE_BYTES) or labels.ndim != 1 or not len(labels):
        problem = f"has data {images.dtype} {images.shape} and {key} {labels.shape}"
        remedy = f"expected data uint8 (N, {_IMAGE_BYTES}) and {key} (N,); {REMEDY}"
        raise InputError(problem, where=where, remedy=remedy)
    return images, labels.astype(np.int64)


def _entry(value: Any, key: str, path: Path) -> Any:
    if not isinstance(value, dict) or key not in value:
        found = (
            f"the keys {', '.join(map(str, value))}" if isinstance(value, dict) else f"no keys: {type(value).__name__}"
        )
        raise InputError(f"has no entry '{key}'", where=str(path), remedy=f"the file has {found[:200]}")
    return value[key]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "make the file readable"
        raise InputError(f"cannot be read ({first_line(error)})", where=str(path), remedy=remedy) from error
