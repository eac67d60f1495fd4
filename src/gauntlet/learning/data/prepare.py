"""Preparation of a data set: training, validation and test split of a source, with their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.data.manifest import SPLITS
from gauntlet.learning.data.splits import RawData, Split
from gauntlet.learning.data.strata import random_permutation, stratified_split
from gauntlet.registry import SOURCES, Spec


@dataclass(frozen=True)
class PreparedData:
    """A data set to store: `splits` by name, `mean` and `std` per channel of the training images in [0, 1]."""

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def prepare(
    source: Spec,
    *,
    validation: float | Literal["half_of_test"] = 0.2,
    test: float = 0.2,
    limit: Mapping[str, int | None] | None = None,
    seed: int = 0,
) -> PreparedData:
    """Read a source and split it.

    `validation` is the share of the training images to hold out, or ``half_of_test`` for half of the test images; the
    source's own validation split, if any, takes precedence over a share. `test` is the share to hold out for testing
    if the source has no test split. `limit` is the maximum number of images for ``train`` (training and validation
    together) and for ``test``. All samples are stratified by class and seeded by `seed` and their purpose, so that a
    limit does not change which images are test images. Each split is stored in random order: its first n images are a
    random sample.

    Raises InputError for a source that cannot be read, and for splits that would be empty or lack a class.
    """
    raw: RawData = SOURCES.load(source.name)(**source.options)
    _check(raw, source.name)
    train, held_out = raw.train, raw.validation
    if raw.test is None:
        train, test_split = _hold_out(train, round(len(train) * test), "test", seed)
    else:
        test_split = raw.test
    limits = limit or {}
    train = _limited(train, limits.get("train"), "limit_train", seed)
    test_split = _limited(test_split, limits.get("test"), "limit_test", seed)
    if validation == "half_of_test":
        test_split, held_out = _hold_out(test_split, len(test_split) // 2, "validation", seed)
    elif held_out is None:
        train, held_out = _hold_out(train, round(len(train) * validation), "validation", seed)
    else:
        held_out = _limited(held_out, limits.get("train"), "limit_validation", seed)
    splits = dict(zip(SPLITS, (train, held_out, test_split), strict=True))
    splits = {name: split.select(random_permutation(len(split), seed, "order", name)) for name, split in splits.items()}
    _check_splits(splits, raw.classes, source.name)
    mean, std = channel_statistics(splits["train"].images)
    return PreparedData(splits, raw.classes, mean, std)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the exact mean and standard deviation per channel of uint8 images `(N, C, H, W)`, scaled to [0, 1].

    A constant channel has the standard deviation 1, so that it can be divided by.
    """
    means, deviations = [], []
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(images.shape[1]):
        # Counting gray levels is exact and needs no float copy of the images.
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        deviations.append(variance**0.5 or 1.0)
    return tuple(means), tuple(deviations)


def _hold_out(split: Split, count: int, purpose: str, seed: int) -> tuple[Split, Split]:
    rest, chosen = stratified_split(split.labels, count, seed, purpose)
    return split.select(rest), split.select(chosen)


def _limited(split: Split, count: int | None, purpose: str, seed: int) -> Split:
    if count is None or count >= len(split):
        return split
    return split.select(stratified_split(split.labels, count, seed, purpose)[1])


def _check(raw: RawData, where: str) -> None:
    shapes = {split.image_shape for split in (raw.train, raw.test, raw.validation) if split is not None}
    if len(shapes) > 1:
        remedy = "set `size:` to scale all images to one size"
        raise InputError(f"the splits have images of different shapes {sorted(shapes)}", where=where, remedy=remedy)
    for split in (raw.train, raw.test, raw.validation):
        if (
            split is not None
            and len(split)
            and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(raw.classes)
        ):
            low, high = int(split.labels.min()), int(split.labels.max())
            problem = f"labels run from {low} to {high} but there are {len(raw.classes)} classes"
            raise InputError(problem, where=where, remedy="number the classes from 0 to their number - 1")


def _check_splits(splits: Mapping[str, Split], classes: tuple[str, ...], where: str) -> None:
    for name, split in splits.items():
        if len(split) == 0:
            problem = f"the {name} split would be empty"
            raise InputError(problem, where=where, remedy="raise `limit:` or change `validation:` and `test:`")
    absent = sorted(set(range(len(classes))) - set(splits["train"].labels.tolist()))
    if absent:
        names = ", ".join(classes[label] for label in absent)
        raise InputError(f"no training image of class {names}", where=where, remedy="raise `limit: {train: …}`")
