"""Image files in one folder per class."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.blocks import Block
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.folders import SUFFIXES, ClassFolders, class_folders, class_key, split_folders
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.visible import expand
from gauntlet.registry import SOURCES, PositiveInt

log = logging.getLogger("gauntlet")

_IMAGES_AT_ONCE = 128


@SOURCES.register("imagefolder", folder="root", compared=True, source="torchvision's ImageFolder layout")
def imagefolder(*, root: str, size: PositiveInt | None = None) -> RawData:
    """Read ``root/train/CLASS/*.png`` (``test``, ``validation`` likewise), or ``root/CLASS/*.png`` without splits.

    There may be test images only. Classes are numbered in alphabetical order. With `size` the shorter side is scaled to
    that many pixels and the center square is cropped; without it all images must have the same size. Raises InputError
    that names the folder or file.
    """
    base = expand(root)
    if not base.is_dir():
        remedy = "set `root:` to the folder that contains train/CLASS/IMAGE or CLASS/IMAGE"
        raise InputError("there is no such folder", where=root, remedy=remedy)
    found = {split: class_folders(folder) for split, folder in split_folders(base).items()}
    classes = _classes(next(iter(found.values())))
    splits = {split: _read(folders, classes, size) for split, folders in found.items()}
    return RawData(splits.get("train"), splits.get("test"), splits.get("validation"), classes)


def _classes(train: ClassFolders) -> tuple[str, ...]:
    classes = tuple(sorted(train.images))
    where = str(train.where)
    if len(classes) < 2:
        problem = f"contains {len(classes)} class folders" + (f" ({shortened(classes)})" if classes else "")
        raise InputError(problem, where=where, remedy="expected one folder of images per class")
    empty = [name for name in classes if not train.images[name]]
    if empty:
        remedy = f"remove these folders, or add images; known suffixes: {shortened(sorted(SUFFIXES), most=20)}"
        raise InputError(f"contains class folders with no image: {shortened(empty)}", where=where, remedy=remedy)
    return classes


def _read(folders: ClassFolders, classes: tuple[str, ...], size: int | None) -> EncodedSplit:
    numbers = {class_key(name): number for number, name in enumerate(classes)}
    where = str(folders.where)
    unknown = sorted(name for name, images in folders.images.items() if images and class_key(name) not in numbers)
    if unknown or len(numbers) < len(classes):
        problem = f"has classes without training images: {shortened(unknown)}"
        remedy = f"the training classes are {shortened(classes)}"
        if not unknown:
            problem, remedy = "contains two folders whose names look the same", "rename one of them"
        raise InputError(problem, where=where, remedy=remedy)
    files = [(file, numbers[class_key(name)]) for name in sorted(folders.images) for file in folders.images[name]]
    if not files:
        suffixes = shortened(sorted(SUFFIXES), most=20)
        raise InputError("contains no image", where=where, remedy=f"known suffixes: {suffixes}")
    if folders.others:
        counts = shortened([f"{suffix} ({count})" for suffix, count in sorted(folders.others.items())])
        log.warning("%s: files that are not read as images: %s", where, counts)
    paths = [file for file, _ in files]

    def blocks() -> Iterator[Block]:
        for start in range(0, len(paths), _IMAGES_AT_ONCE):
            part = paths[start : start + _IMAGES_AT_ONCE]
            yield Block(part, [str(path) for path in part], size)

    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return EncodedSplit(labels, blocks, where, warns_of_orientation=True)
