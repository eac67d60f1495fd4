"""Preparation of a data set: training, validation and test split of a source, with their statistics."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gauntlet.core.errors import GauntletError, InputError, first_line, shortened
from gauntlet.learning.data.checks import checked
from gauntlet.learning.data.duplicates import count_duplicates
from gauntlet.learning.data.manifest import SPLITS, duplicate_notes
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.strata import random_permutation, stratified_split
from gauntlet.registry import SOURCES, Spec

log = logging.getLogger("gauntlet")


@dataclass(frozen=True)
class PreparedData:
    """A data set to store: `splits` by name, `mean` and `std` per channel of the training images in [0, 1].

    `duplicates` counts the images that occur in two splits, as `count_duplicates` does.
    """

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    duplicates: Mapping[str, int] = field(default_factory=dict)


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

    What a user should know is logged as a warning: classes without images, settings without effect, images that occur
    in two splits. Raises InputError for a source that cannot be read, for fewer than two classes, and for splits that
    would be empty or lack a class of the test images.
    """
    raw = checked(_read(source), source.name)
    train, held_out = raw.train, raw.validation
    if raw.test is None:
        train, test_split = _hold_out(train, round(len(train) * test), "test", seed)
    else:
        test_split = raw.test
    limits = limit or {}
    train = _limited(train, limits.get("train"), "limit_train", seed)
    test_split = _limited(test_split, limits.get("test"), "limit_test", seed)
    if validation == "half_of_test":
        if held_out is not None:
            log.warning(
                "%s: `validation: half_of_test` leaves out the %d validation images", source.name, len(held_out)
            )
        test_split, held_out = _hold_out(test_split, len(test_split) // 2, "validation", seed)
    elif held_out is None:
        train, held_out = _hold_out(train, round(len(train) * validation), "validation", seed)
    else:
        held_out = _limited(held_out, limits.get("train"), "limit_validation", seed)
    splits = dict(zip(SPLITS, (train, held_out, test_split), strict=True))
    splits = {name: split.select(random_permutation(len(split), seed, "order", name)) for name, split in splits.items()}
    _check_splits(splits, raw.classes, source.name, limited=limits.get("train") is not None)
    duplicates = count_duplicates(splits)
    for note in duplicate_notes(duplicates, {name: len(split) for name, split in splits.items()}):
        log.warning("%s: %s", source.name, note)
    mean, std = channel_statistics(splits["train"].images)
    return PreparedData(splits, raw.classes, mean, std, duplicates)


def _read(source: Spec) -> object:
    """Call a source. Raises InputError, with the line of the source's own file, for whatever it raises."""
    function = SOURCES.load(source.name)
    try:
        return function(**source.options)
    except (GauntletError, MemoryError):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        file = inspect.getsourcefile(inspect.unwrap(function))
        frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
        line = first_line(error)
        problem = f"raised {type(error).__name__}: {line} ({Path(frame.filename).name}, line {frame.lineno})"
        raise InputError(problem, where=source.name, remedy="correct the source, or the files that it reads") from error


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
        if count is not None and count > len(split) and purpose != "limit_validation":
            log.warning("`limit: {%s: %d}` has no effect on %d images", purpose[len("limit_") :], count, len(split))
        return split
    return split.select(stratified_split(split.labels, count, seed, purpose)[1])


def _check_splits(splits: Mapping[str, Split], classes: tuple[str, ...], where: str, *, limited: bool) -> None:
    for name, split in splits.items():
        if len(split) == 0:
            problem = f"the {name} split would be empty"
            raise InputError(problem, where=where, remedy="raise `limit:` or change `validation:` and `test:`")
    absent = _absent(splits["train"], classes)
    if absent:
        problem = f"no training image of class {shortened(absent)}"
        remedy = "raise `limit: {train: …}`" if limited else "add images, or lower the shares `validation:` and `test:`"
        raise InputError(problem, where=where, remedy=remedy)
    for name in ("validation", "test"):
        absent = _absent(splits[name], classes)
        if absent:
            log.warning("%s: no %s image of class %s", where, name, shortened(absent))


def _absent(split: Split, classes: tuple[str, ...]) -> list[str]:
    return [classes[label] for label in sorted(set(range(len(classes))) - set(split.labels.tolist()))]
