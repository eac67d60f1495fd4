"""Layouts of CIFAR's files: those of CIFAR-10 and CIFAR-100, in the Python and in the binary version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.visible import children

_ARCHIVES = (".zip", ".gz", ".tgz", ".tar")


@dataclass(frozen=True)
class LabelPlace:
    """Place of one kind of labels: the file of the class names, the key in pickles, the byte in binary records."""

    names_file: str
    key: str
    byte: int


@dataclass(frozen=True)
class Layout:
    """Files of a data set in one version; `labels` are ``fine`` and, for CIFAR-100, ``coarse``.

    Record of the binary version: one byte per kind of labels, then the 3072 bytes of the image.
    """

    name: str
    version: Literal["Python", "binary"]
    train: tuple[str, ...]
    test: str
    labels: Mapping[str, LabelPlace]

    @property
    def title(self) -> str:
        """Name and version, for messages."""
        return f"the {self.version} version of {self.name}"


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS = (
    Layout("CIFAR-10", "Python", _BATCHES, "test_batch", {"fine": LabelPlace("batches.meta", "labels", 0)}),
    Layout(
        "CIFAR-10",
        "binary",
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        {"fine": LabelPlace("batches.meta.txt", "labels", 0)},
    ),
    Layout(
        "CIFAR-100",
        "Python",
        ("train",),
        "test",
        {"fine": LabelPlace("meta", "fine_labels", 1), "coarse": LabelPlace("meta", "coarse_labels", 0)},
    ),
    Layout(
        "CIFAR-100",
        "binary",
        ("train.bin",),
        "test.bin",
        {
            "fine": LabelPlace("fine_label_names.txt", "fine_labels", 1),
            "coarse": LabelPlace("coarse_label_names.txt", "coarse_labels", 0),
        },
    ),
)


def find_layout(base: Path, kind: str) -> tuple[Path, Layout]:
    """Return the folder with CIFAR's files, which is `base` or a folder in it, and their layout.

    Raises InputError if there are no such files or several data sets, if files are missing, or if the data set has no
    labels of this `kind`.
    """
    folders, files = children(base)
    found = [(base, layout) for layout in _LAYOUTS if _has_files(base, layout)]
    found = found or [(folder, layout) for folder in folders for layout in _LAYOUTS if _has_files(folder, layout)]
    if not found:
        archives = [file.name for file in files if file.suffix in _ARCHIVES]
        problem = "contains no files of CIFAR"
        remedy = "set `root:` to the folder with data_batch_1 or data_batch_1.bin, or train or train.bin of CIFAR-100"
        if archives:
            remedy = f"unpack {shortened(archives)}, or {remedy}"
        raise InputError(problem, where=str(base), remedy=remedy)
    if len(found) > 1:
        sets = [f"{layout.title} in {folder.name}" for folder, layout in found]
        remedy = "set `root:` to the folder of one of them"
        raise InputError(f"contains several data sets: {shortened(sets)}", where=str(base), remedy=remedy)
    folder, layout = found[0]
    if kind not in layout.labels:
        raise InputError(
            f"{layout.name} has no {kind} labels", where=str(folder), remedy=f"leave `{kind}:` out, or read CIFAR-100"
        )
    needed = (*layout.train, layout.test, layout.labels[kind].names_file)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        remedy = f"{layout.title} has {shortened(needed, most=10)}"
        raise InputError(f"lacks {shortened(missing, most=10)}", where=str(folder), remedy=remedy)
    return folder, layout


def _has_files(folder: Path, layout: Layout) -> bool:
    return any((folder / name).is_file() for name in (*layout.train, layout.test))
