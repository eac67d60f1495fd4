"""Checks of what a source returns, of whatever kind it is, and the forms that all splits share."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import replace
from typing import Any

import torch

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.splits import RawData, Split

log = logging.getLogger("gauntlet")


def checked(raw: object, where: str) -> RawData:
    """Return a source's data with the same number of channels in all splits, and the classes that have images.

    Gray images become color images if another split has color. Raises InputError for splits of different shapes, for
    labels that are no class or do not occur in training, and for fewer than two classes.
    """
    if not isinstance(raw, RawData):
        raise InputError(f"returned {type(raw).__name__}", where=where, remedy="a data source returns RawData")
    raw = _same_channels(raw)
    _check_shapes(raw, where)
    _check_labels(raw, where)
    raw = _present_classes(raw, where)
    if len(raw.classes) < 2:
        problem = f"all {len(raw.train)} training images have the class '{shortened(raw.classes)}'"
        raise InputError(problem, where=where, remedy="a classifier needs at least two classes")
    return raw


def _splits(raw: RawData) -> dict[str, Split]:
    splits = {"training": raw.train, "validation": raw.validation, "test": raw.test}
    return {name: split for name, split in splits.items() if split is not None}


def _same_channels(raw: RawData) -> RawData:
    if {split.image_shape[0] for split in _splits(raw).values()} != {1, 3}:
        return raw
    return RawData(_in_color(raw.train), _in_color(raw.test), _in_color(raw.validation), raw.classes)


def _in_color(split: Any) -> Any:
    return split if split is None or split.image_shape[0] == 3 else Split(split.images.repeat(1, 3, 1, 1), split.labels)


def _check_shapes(raw: RawData, where: str) -> None:
    shapes = {name: split.image_shape for name, split in _splits(raw).items()}
    if len({shape[0] for shape in shapes.values()}) > 1:
        counts = ", ".join(f"{name} {shape[0]}" for name, shape in shapes.items())
        remedy = "store all images with the same channels"
        raise InputError(f"the splits have different numbers of channels: {counts}", where=where, remedy=remedy)
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {shape[1]}x{shape[2]}" for name, shape in shapes.items())
        remedy = "set `size:` to scale all images to one size"
        raise InputError(f"the splits have images of different sizes: {sizes}", where=where, remedy=remedy)


def _check_labels(raw: RawData, where: str) -> None:
    for name, split in _splits(raw).items():
        if not len(split):
            raise InputError(
                f"the source has no {name} images", where=where, remedy="add images, or leave the split out"
            )
        low, high = int(split.labels.min()), int(split.labels.max())
        if not 0 <= low <= high < len(raw.classes):
            problem = f"the {name} labels run from {low} to {high} but there are {len(raw.classes)} classes"
            raise InputError(problem, where=where, remedy="number the classes from 0 to their number - 1")
    unusable = [name for name in raw.classes if not _is_printable(str(name))]
    if unusable:
        problem = f"the names of classes contain control characters or invalid text: {shortened(unusable)}"
        raise InputError(problem, where=where, remedy="rename these classes")


def _is_printable(name: str) -> bool:
    return bool(name) and not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def _present_classes(raw: RawData, where: str) -> RawData:
    """Leave out the classes without images, and number the others anew in the same order."""
    present = torch.unique(raw.train.labels)
    classes = tuple(str(raw.classes[label]) for label in present.tolist())
    for name, split in _splits(raw).items():
        absent = sorted(set(split.labels.tolist()) - set(present.tolist()))
        if absent:
            names = shortened([raw.classes[label] for label in absent])
            remedy = f"add training images of these classes, or remove their {name} images"
            raise InputError(
                f"the {name} images have classes without training images: {names}", where=where, remedy=remedy
            )
    if len(classes) == len(raw.classes):
        return replace(raw, classes=classes)
    absent_names = [name for label, name in enumerate(raw.classes) if label not in set(present.tolist())]
    log.warning("%s: classes without images are left out: %s", where, shortened(absent_names))

    def numbered(split: Any) -> Any:
        return None if split is None else Split(split.images, torch.searchsorted(present, split.labels))

    return RawData(numbered(raw.train), numbered(raw.test), numbered(raw.validation), classes)
