"""Layout of image folders: the folder of each split, the folder of each class, and the images in it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.split_names import SplitName, affixed_splits, exact_split, is_filler, split_name
from gauntlet.learning.data.visible import children, files_below, walk

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
"""Suffixes, in lower case, of the files that are read as images."""

_LAYOUT = "expected SPLIT/CLASS/IMAGE, or CLASS/IMAGE without splits"


@dataclass(frozen=True)
class ClassFolders:
    """Images of one split by the name of their class, and how many other files there are per suffix."""

    where: Path
    images: dict[str, list[Path]]
    others: Counter[str]


def is_image(path: Path) -> bool:
    """Return whether a file is read as an image, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def split_folders(base: Path) -> dict[str, Path]:
    """Return the folder of each split that `base` has, ``train`` or ``test`` first; without splits `base` is ``train``.

    Folders named as splits may be one below the other, and in a folder such as ``images``. Raises InputError if
    folders named as splits are next to others with images, if a split has two folders, or if there is neither training
    nor test split.
    """
    folders, files = children(base)
    named = _splits_among(folders)
    others = [folder for folder in folders if folder not in named]
    if not named:
        inner = [folder for folder in folders if _has_splits_below(folder)]
        if not inner:
            return {"train": base}
        if len(inner) == 1 and not any(map(is_image, files)) and not any(map(_has_image, set(others) - set(inner))):
            return split_folders(inner[0])
        problem = f"contains folders of splits in each of {_names(inner)}"
        if len(inner) == 1:
            problem = f"contains folders of splits in {inner[0].name}, and images next to it"
        raise InputError(problem, where=str(base), remedy=f"set `root:` to one data set, such as {inner[0]}; {_LAYOUT}")
    strays = [folder for folder in others if _has_image(folder)]
    if strays:
        problem = f"contains folders named as splits ({_names(list(named))}) next to others ({_names(strays)})"
        remedy = "move the others elsewhere, or, if all of them are classes, move all into a folder `train`"
        raise InputError(problem, where=str(base), remedy=remedy)
    _refuse_outside(base, files)
    found: dict[str, Path] = {}
    for folder, name in named.items():
        if name.split in found:
            problem = f"contains the split {name.split} twice: {found[name.split].name}, {folder.name}"
            raise InputError(problem, where=str(base), remedy="move one of them elsewhere")
        found[name.split] = folder
    if not found.keys() & {"train", "test"}:
        problem = f"contains the splits {_names(list(named))}, but no training images"
        raise InputError(problem, where=str(base), remedy="add a folder `train`, or set `root:` to the folder above")
    return {split: _innermost(found[split], split) for split in ("train", "test", "validation") if split in found}


def class_folders(split: Path) -> ClassFolders:
    """Return the images of a split, whose folders are its classes; images may be in folders below those.

    A folder without images has an empty list. Raises InputError for images outside of the folders of classes, and for
    folders of splits inside.
    """
    folders, files = children(split)
    _refuse_outside(split, files)
    images: dict[str, list[Path]] = {}
    others: Counter[str] = Counter()
    for folder in folders:
        visible = list(files_below(folder))
        found = sorted(path for path in visible if is_image(path))
        others.update(path.suffix.lower() or path.name for path in visible if not is_image(path))
        inside = {part for path in found for part in path.relative_to(folder).parts[:-1] if exact_split(part)}
        if exact_split(folder.name) and any(path.parent != folder for path in found):
            inside.add(folder.name)
        if inside:
            problem = f"contains folders named as splits below the splits or classes: {shortened(sorted(inside))}"
            raise InputError(problem, where=str(folder), remedy=_LAYOUT)
        images[folder.name] = found
    _refuse_repeated_folders(split, images)
    return ClassFolders(split, images, others)


def _refuse_repeated_folders(split: Path, images: dict[str, list[Path]]) -> None:
    """Raise InputError if all folders contain the same folders, which then are more likely the classes.

    So are several editions of a data set: ``color/{cat,dog}`` and ``gray/{cat,dog}``.
    """
    below = [{path.relative_to(split).parts[1] for path in paths} for paths in images.values() if paths]
    direct = any(path.parent.parent == split for paths in images.values() for path in paths)
    if len(below) > 1 and not direct and len(below[0]) > 1 and all(names == below[0] for names in below):
        problem = f"contains the same folders in each of {shortened(sorted(images))}: {shortened(sorted(below[0]))}"
        first = split / min(images)
        remedy = f"set `root:` to one of them, such as {first}, or put the images into the folder of their class"
        raise InputError(problem, where=str(split), remedy=remedy)


def class_key(name: str) -> str:
    """Return the form in which names of classes are compared: two encodings of an accent are the same name."""
    return unicodedata.normalize("NFC", name)


def _splits_among(folders: Sequence[Path]) -> dict[Path, SplitName]:
    """Return the folders that are named as splits."""
    exact = {folder: name for folder in folders if (name := exact_split(folder.name)) is not None}
    if exact:
        return exact
    affixed = affixed_splits(folder.name for folder in folders)
    return {folder: affixed[folder.name] for folder in folders if folder.name in affixed}


def _has_splits_below(folder: Path) -> bool:
    return any(_splits_among(folders) for folders, _ in walk(folder))


def _has_image(folder: Path) -> bool:
    return any(is_image(path) for path in files_below(folder))


def _innermost(folder: Path, split: str) -> Path:
    """Follow single folders that repeat the split or mean nothing, as in ``seg_train/seg_train``."""
    folders, files = children(folder)
    if len(folders) == 1 and not any(map(is_image, files)):
        inner = folders[0]
        named = split_name(inner.name)
        repeats = named is not None and named.split == split
        if (repeats or is_filler(inner.name)) and children(inner)[0]:
            return _innermost(inner, split)
    return folder


def _refuse_outside(folder: Path, files: Sequence[Path]) -> None:
    images = [path for path in files if is_image(path)]
    if images:
        problem = f"contains images outside the folders of classes: {_names(images)}"
        raise InputError(problem, where=str(folder), remedy=f"move them; {_LAYOUT}")


def _names(paths: Sequence[Path]) -> str:
    return shortened([path.name for path in paths])
