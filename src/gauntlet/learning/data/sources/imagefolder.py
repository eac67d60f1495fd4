"""Image files in one folder per class."""

from __future__ import annotations

import logging
from collections import Counter

import torch

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.decoding import decode, stack
from gauntlet.learning.data.folders import SUFFIXES, ClassFolders, class_folders, class_key, split_folders
from gauntlet.learning.data.splits import RawData, Split
from gauntlet.learning.data.visible import expand
from gauntlet.registry import SOURCES, PositiveInt

log = logging.getLogger("gauntlet")


@SOURCES.register("imagefolder", folder="root", compared=True, source="torchvision's ImageFolder layout")
def imagefolder(*, root: str, size: PositiveInt | None = None) -> RawData:
    """Read ``root/train/CLASS/*.png`` (``test``, ``validation`` likewise), or ``root/CLASS/*.png`` without splits.

    Classes are numbered in alphabetical order. With `size` the shorter side is scaled to that many pixels and the
    center square is cropped; without it all images must have the same size. Raises InputError that names the folder or
    file.
    """
    base = expand(root)
    if not base.is_dir():
        remedy = "set `root:` to the folder that contains train/CLASS/IMAGE or CLASS/IMAGE"
        raise InputError("there is no such folder", where=root, remedy=remedy)
    found = {split: class_folders(folder) for split, folder in split_folders(base).items()}
    classes = _classes(found["train"])
    splits = {split: _read(folders, classes, size) for split, folders in found.items()}
    return RawData(splits["train"], splits.get("test"), splits.get("validation"), classes)


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


def _read(folders: ClassFolders, classes: tuple[str, ...], size: int | None) -> Split:
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
    names = [str(file) for file, _ in files]
    orientations: Counter[int] = Counter()
    arrays = [decode(file, where=str(file), size=size, orientations=orientations) for file, _ in files]
    turned = orientations.total() - orientations[1]
    if turned:
        # As torchvision's ImageFolder reads them.
        log.warning(
            "%s: %d images have an EXIF orientation, which is not applied; turn them if it should be", where, turned
        )
    images = stack(arrays, names)
    return Split(images, torch.tensor([label for _, label in files], dtype=torch.int64))
