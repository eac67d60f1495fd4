"""Image files in one folder per class."""

from __future__ import annotations

from pathlib import Path

import torch

from gauntlet.core.errors import InputError
from gauntlet.learning.data.decoding import decode, stack
from gauntlet.learning.data.splits import RawData, Split
from gauntlet.registry import SOURCES, PositiveInt

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


@SOURCES.register("imagefolder", source="torchvision's ImageFolder layout")
def imagefolder(*, root: str, size: PositiveInt | None = None) -> RawData:
    """Read ``root/train/CLASS/*.png`` (``test``, ``validation`` likewise), or ``root/CLASS/*.png`` without splits.

    Classes are numbered in alphabetical order. With `size` the shorter side is scaled to that many pixels and the
    center square is cropped; without it all images must have the same size. Raises InputError that names the folder or
    file.
    """
    base = Path(root)
    if not base.is_dir():
        remedy = "set `root:` to the folder that contains train/CLASS/IMAGE or CLASS/IMAGE"
        raise InputError("there is no such folder", where=root, remedy=remedy)
    folders = {split: _first_folder(base, names) for split, names in _SPLIT_FOLDERS.items()}
    train = folders["train"] or base
    classes = tuple(sorted(folder.name for folder in _folders(train)))
    if folders["train"] is None:
        folders = dict.fromkeys(folders)
    if len(classes) < 2:
        remedy = "expected one folder of images per class"
        raise InputError(f"contains {len(classes)} class folders", where=str(train), remedy=remedy)
    test, validation = folders["test"], folders["validation"]
    return RawData(
        _read(train, classes, size),
        None if test is None else _read(test, classes, size),
        None if validation is None else _read(validation, classes, size),
        classes,
    )


def _read(folder: Path, classes: tuple[str, ...], size: int | None) -> Split:
    folders = {child.name: child for child in _folders(folder)}
    unknown = sorted(set(folders) - set(classes))
    if unknown:
        problem = f"has classes without training images: {', '.join(unknown)}"
        raise InputError(problem, where=str(folder), remedy=f"the training classes are {', '.join(classes)}")
    files = [(file, label) for label, name in enumerate(classes) if name in folders for file in _images(folders[name])]
    if not files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise InputError("contains no image", where=str(folder), remedy=f"known suffixes: {suffixes}")
    names = [str(file) for file, _ in files]
    images = stack([decode(file, where=str(file), size=size) for file, _ in files], names)
    return Split(images, torch.tensor([label for _, label in files], dtype=torch.int64))


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not _hidden(file))


def _folders(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir() and not _hidden(child)]


def _first_folder(base: Path, names: tuple[str, ...]) -> Path | None:
    return next((base / name for name in names if (base / name).is_dir()), None)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
