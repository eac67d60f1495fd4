"""Preparation of a data set: the choice of its images, and the whole of it in memory."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gauntlet.core.errors import GauntletError, InputError, first_line, shortened
from gauntlet.core.progress import NullProgress
from gauntlet.learning.data.blocks import ArraySink
from gauntlet.learning.data.checks import checked
from gauntlet.learning.data.decoding import Array
from gauntlet.learning.data.manifest import SPLITS
from gauntlet.learning.data.reading import read_images
from gauntlet.learning.data.selection import SelectedData, SelectedSplit
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.statistics import channel_statistics, find_duplicates
from gauntlet.learning.data.strata import random_permutation, stratified_split
from gauntlet.registry import SOURCES, Spec

log = logging.getLogger("gauntlet")


@dataclass(frozen=True)
class PreparedData:
    """A data set in memory: `splits` by name, `mean` and `std` per channel of the training images in [0, 1].

    `duplicates` counts the images that occur in two splits, as `count_duplicates` does.
    """

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    duplicates: Mapping[str, int] = field(default_factory=dict)


def prepare(source: Spec, **settings: Any) -> PreparedData:
    """Read a source and split it, in memory; `settings` are those of `select`.

    Warns and raises InputError as `select` and `read_images` do.
    """
    data = select(source, **settings)
    arrays: list[Array] = []

    def open_sink(shape: tuple[int, int, int]) -> ArraySink:
        arrays[:] = [np.empty((len(split), *shape), np.uint8) for split in data.splits.values()]
        return ArraySink(arrays)

    read = read_images(data, open_sink, NullProgress())
    splits = {
        name: Split(torch.from_numpy(array), split.labels)
        for (name, split), array in zip(data.splits.items(), arrays, strict=True)
    }
    mean, std = channel_statistics(read.levels[data.described])
    return PreparedData(splits, data.classes, mean, std, find_duplicates(read.hashes, data.where))


def select(
    source: Spec,
    *,
    validation: float | Literal["half_of_test"] = 0.2,
    test: float | Literal["all"] = 0.2,
    limit: Mapping[str, int | None] | None = None,
    seed: int = 0,
) -> SelectedData:
    """Read a source's labels and split its images.

    `validation` is the share of the training images to hold out, or ``half_of_test`` for half of the test images; the
    source's own validation split, if any, takes precedence over a share. `test` is the share to hold out for testing
    if the source has no test split, or ``all``. Without training images the training split is empty. `limit` is the
    maximum number of images for ``train``, before a share is held out, and for ``test``; that for ``train`` holds for a
    source's own validation split too; with ``half_of_test`` that for ``test`` is the number for validation and testing
    together. All samples are stratified by class and seeded by `seed` and their purpose, so that a limit makes no test
    image a training or validation image. Each split is stored in random order: its first n images are a random sample.

    What a user should know is logged as a warning: classes without images, settings without effect. Raises InputError
    for a source that cannot be read, for fewer than two classes, and for splits that would be empty or lack a class of
    the test images.
    """
    raw = checked(_read(source), source.name)
    sources = tuple(split for split in (raw.train, raw.validation, raw.test) if split is not None)
    nothing = SelectedSplit(sources[0], torch.empty(0, dtype=torch.int64))
    train, held_out, test_split = (
        None if split is None else SelectedSplit.of(split) for split in (raw.train, raw.validation, raw.test)
    )
    if test_split is None:
        everything = train or nothing
        if test == "all":
            train, test_split = None, everything
        else:
            train, test_split = _hold_out(everything, round(len(everything) * test), "test", seed)
    elif test == "all":
        log.warning("%s: `test: all` has no effect on a source with test images", source.name)
    limits = limit or {}
    trained = train is not None
    train = nothing if train is None else _limited(train, limits.get("train"), "limit_train", seed)
    if validation == "half_of_test":
        if held_out is not None:
            log.warning(
                "%s: `validation: half_of_test` leaves out the %d validation images", source.name, len(held_out)
            )
        test_split, held_out = _halved(test_split, limits.get("test"), seed)
    else:
        test_split = _limited(test_split, limits.get("test"), "limit_test", seed)
        if held_out is None:
            train, held_out = _hold_out(train, round(len(train) * validation), "validation", seed)
        else:
            held_out = _limited(held_out, limits.get("train"), "limit_validation", seed)
    splits = dict(zip(SPLITS, (train, held_out, test_split), strict=True))
    splits = {name: split.select(random_permutation(len(split), seed, "order", name)) for name, split in splits.items()}
    _check_splits(splits, raw.classes, source.name, limited=limits.get("train") is not None, trained=trained)
    return SelectedData(splits, sources, raw.classes, source.name)


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


def _hold_out(split: SelectedSplit, count: int, purpose: str, seed: int) -> tuple[SelectedSplit, SelectedSplit]:
    rest, chosen = stratified_split(split.labels, count, seed, purpose)
    return split.select(rest), split.select(chosen)


def _halved(split: SelectedSplit, limit: int | None, seed: int) -> tuple[SelectedSplit, SelectedSplit]:
    """Divide the test images into those for testing and those for validation, at most `limit` in all.

    Each half is limited by itself: otherwise validation images of a limited data set, by which a user chooses settings,
    would be test images of the whole one.
    """
    if limit is None or limit >= len(split):
        split, limit = _limited(split, limit, "limit_test", seed), len(split)
    test, validation = _hold_out(split, len(split) // 2, "validation", seed)
    for_validation = limit // 2
    return (
        _limited(test, limit - for_validation, "limit_test", seed),
        _limited(validation, for_validation, "limit_validation", seed),
    )


def _limited(split: SelectedSplit, count: int | None, purpose: str, seed: int) -> SelectedSplit:
    if count is None or count >= len(split):
        if count is not None and count > len(split) and purpose != "limit_validation":
            log.warning("`limit: {%s: %d}` has no effect on %d images", purpose[len("limit_") :], count, len(split))
        return split
    return split.select(stratified_split(split.labels, count, seed, purpose)[1])


def _check_splits(
    splits: Mapping[str, SelectedSplit], classes: tuple[str, ...], where: str, *, limited: bool, trained: bool
) -> None:
    if not trained:
        log.warning(
            "%s: there are no training images: nothing can be trained, mean and std are those of the test images", where
        )
    for name, split in splits.items():
        if len(split) == 0 and (trained or name == "test"):
            problem = f"the {name} split would be empty"
            raise InputError(problem, where=where, remedy="raise `limit:` or change `validation:` and `test:`")
    absent = _absent(splits["train"], classes) if trained else []
    if absent:
        problem = f"no training image of class {shortened(absent)}"
        remedy = "raise `limit: {train: …}`" if limited else "add images, or lower the shares `validation:` and `test:`"
        raise InputError(problem, where=where, remedy=remedy)
    for name in ("validation", "test"):
        absent = _absent(splits[name], classes) if len(splits[name]) else []
        if absent:
            log.warning("%s: no %s image of class %s", where, name, shortened(absent))


def _absent(split: SelectedSplit, classes: tuple[str, ...]) -> list[str]:
    return [classes[label] for label in sorted(set(range(len(classes))) - set(split.labels.tolist()))]
