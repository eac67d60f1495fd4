"""Files in CIFAR's layout, in the Python version (of Python 2 and 3) and in the binary version."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Dump = Callable[[Any], bytes]


@dataclass(frozen=True)
class Images:
    """Images uint8 `(N, 3072)` with labels of both kinds, `(N,)`; those of CIFAR-10 are the fine ones."""

    data: Array
    fine: Array
    coarse: Array

    @classmethod
    def random(cls, count: int, seed: int, classes: int = 10) -> Images:
        """Return random images whose classes take turns."""
        data = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
        fine = np.arange(count) % classes
        return cls(data, fine, fine // 2)


def names(count: int, kind: str = "class") -> list[str]:
    """Return names of classes."""
    return [f"{kind}_{number}" for number in range(count)]


def python3(protocol: int) -> Dump:
    """Return the function that pickles as Python 3 does, with one protocol."""
    return lambda value: pickle.dumps(value, protocol)


def python2(value: Any) -> bytes:
    """Pickle a value as `cPickle.dumps(value, 2)` of Python 2 does, whose strings are bytes; without the memo."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    match value:
        case str():
            text = value.encode()
            return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case int() | np.integer():
            return b"M" + struct.pack("<H", value)
        case list():
            return b"](" + b"".join(map(_python2, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            count, size = value.shape
            array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            shape = _python2(count) + _python2(size) + b"\x86"
            return array + b"(K\x01" + shape + dtype + b"\x89" + _python2(value.tobytes()) + b"tb"
    raise TypeError(type(value).__name__)


def batch(images: Images, **others: Any) -> dict[str, Any]:
    """Return the content of a file of CIFAR-10's Python version."""
    filenames = [f"{number}.png" for number in range(len(images.fine))]
    content = {"batch_label": "training batch 1 of 5", "labels": images.fine.tolist(), "data": images.data}
    return {**content, "filenames": filenames, **others}


def write_cifar10(folder: Path, train: Images, test: Images, dump: Dump | None = python2) -> None:
    """Write CIFAR-10's files, pickled by `dump` or, if it is None, in the binary version."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.array_split(np.arange(len(train.fine)), 5)
    parts = {f"data_batch_{number}": part for number, part in enumerate(order, 1)}
    files = {name: Images(train.data[part], train.fine[part], train.coarse[part]) for name, part in parts.items()}
    for name, images in {**files, "test_batch": test}.items():
        if dump is None:
            (folder / f"{name}.bin").write_bytes(np.hstack([images.fine[:, None], images.data]).astype("u1").tobytes())
        else:
            (folder / name).write_bytes(dump(batch(images)))
    if dump is None:
        (folder / "batches.meta.txt").write_text("\n".join(names(10)) + "\n\n")
    else:
        meta = {"num_cases_per_batch": 10_000, "label_names": names(10), "num_vis": 3072}
        (folder / "batches.meta").write_bytes(dump(meta))


def write_cifar100(folder: Path, splits: Mapping[str, Images], classes: int, dump: Dump | None = python2) -> None:
    """Write CIFAR-100's files `train` and `test`, pickled by `dump` or, if it is None, in the binary version."""
    folder.mkdir(parents=True, exist_ok=True)
    fine, coarse = names(classes), names((classes + 1) // 2, "super")
    for name, images in splits.items():
        if dump is None:
            columns = [images.coarse[:, None], images.fine[:, None], images.data]
            (folder / f"{name}.bin").write_bytes(np.hstack(columns).astype("u1").tobytes())
        else:
            labels = {"fine_labels": images.fine.tolist(), "coarse_labels": images.coarse.tolist()}
            (folder / name).write_bytes(dump({"batch_label": name, "data": images.data, **labels}))
    if dump is None:
        (folder / "fine_label_names.txt").write_text("\n".join(fine) + "\n")
        (folder / "coarse_label_names.txt").write_text("\n".join(coarse) + "\n")
    else:
        (folder / "meta").write_bytes(dump({"fine_label_names": fine, "coarse_label_names": coarse}))
