"""Checks of what a source returns, of whatever kind it is."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

import torch

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.raw_data import RawData, SourceSplit

log = logging.getLogger("gauntlet")


def checked(raw: object, where: str) -> RawData:
    """Return a source's data with the classes that have images.

    Raises InputError for splits of different shapes, for labels that are no class or do not occur in training (in
    testing, without training images), and for fewer than two classes.
    """
    if not isinstance(raw, RawData):
        raise InputError(f"returned {type(raw).__name__}", where=where, remedy="a data source returns RawData")
    for name, split in _splits(raw).items():
        if not isinstance(split, SourceSplit):
            problem = f"the {name} images are a {type(split).__name__}"
            raise InputError(problem, where=where, remedy="a data source returns a Split for each")
    if isinstance(raw.classes, str) or not isinstance(raw.classes, Iterable):
        problem = f"the class names are of type {type(raw.classes).__name__}"
        raise InputError(problem, where=where, remedy="a data source returns a tuple of them")
    raw = replace(raw, classes=tuple(raw.classes))
    if raw.train is None and raw.test is None:
        raise InputError("the source has neither training nor test images", where=where, remedy="add images")
    _check_labels(raw, where)
    _check_shapes(raw, where)
    raw = _present_classes(raw, where)
    if len(raw.classes) < 2:
        kind, split = next(iter(_splits(raw).items()))
        problem = f"all {len(split)} {kind} images have the class '{shortened(raw.classes)}'"
        raise InputError(problem, where=where, remedy="a classifier needs at least two classes")
    return raw


def _splits(raw: RawData) -> dict[str, SourceSplit]:
    """Return the splits, first the one whose labels are the classes."""
    splits = {"training": raw.train, "test": raw.test, "validation": raw.validation}
    return {name: split for name, split in splits.items() if split is not None}


def _check_shapes(raw: RawData, where: str) -> None:
    shapes = {name: split.image_shape for name, split in _splits(raw).items()}
    channels = {shape[0] for shape in shapes.values()}
    # Gray images become color images.
    if len(channels) > 1 and channels != {1, 3}:
        counts = ", ".join(f"{name} {shape[0]}" for name, shape in shapes.items())
        remedy = "store all images with the same channels"
        raise InputError(f"the splits have different numbers of channels: {counts}", where=where, remedy=remedy)
    if len({shape[1:] for shape in shapes.values()}) > 1:
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
    reference, *others = _splits(raw)
    present = torch.unique(_splits(raw)[reference].labels)
    classes = tuple(str(raw.classes[label]) for label in present.tolist())
    for name in others:
        absent = sorted(set(_splits(raw)[name].labels.tolist()) - set(present.tolist()))
        if absent:
            names = shortened([raw.classes[label] for label in absent])
            problem = f"the {name} images have classes without {reference} images: {names}"
            remedy = f"add {reference} images of these classes, or remove their {name} images"
            raise InputError(problem, where=where, remedy=remedy)
    if len(classes) == len(raw.classes):
        return replace(raw, classes=classes)
    absent_names = [name for label, name in enumerate(raw.classes) if label not in set(present.tolist())]
    log.warning("%s: classes without images are left out: %s", where, shortened(absent_names))

    def numbered(split: SourceSplit | None) -> SourceSplit | None:
        return None if split is None else split.with_labels(torch.searchsorted(present, split.labels))

    return RawData(numbered(raw.train), numbered(raw.test), numbered(raw.validation), classes)
