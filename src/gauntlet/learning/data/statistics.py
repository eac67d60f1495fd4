"""Statistics of a data set that are known once all images were read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gauntlet.learning.data.manifest import duplicate_notes

log = logging.getLogger("gauntlet")

Table = np.ndarray[Any, np.dtype[Any]]


def level_counts(images: Tensor) -> Table:
    """Count the levels of the pixels of uint8 images `(N, C, H, W)`: int64 `(C, 256)`."""
    counts = [torch.bincount(images[:, channel].flatten(), minlength=256) for channel in range(images.shape[1])]
    return torch.stack(counts).numpy()


def channel_statistics(levels: Table) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the exact mean and standard deviation per channel of images in [0, 1], from their `level_counts`.

    A constant channel has the standard deviation 1, so that it can be divided by.
    """
    means, deviations = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in levels:
        counts = torch.from_numpy(channel).double()
        mean = float((counts * values).sum() / counts.sum())
        variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        # Of a constant channel, the mean may be rounded to another number than its only level.
        deviations.append(variance**0.5 if (channel > 0).sum() > 1 else 1.0)
    return tuple(means), tuple(deviations)


def find_duplicates(hashes: Mapping[str, Table], where: str) -> dict[str, int]:
    """Count duplicates, as `count_duplicates` does, and log a warning for each pair of splits that share images."""
    duplicates = count_duplicates(hashes)
    for note in duplicate_notes(duplicates, {name: len(values) for name, values in hashes.items()}):
        log.warning("%s: %s", where, note)
    return duplicates


def count_duplicates(hashes: Mapping[str, Table]) -> dict[str, int]:
    """Count, for each pair of splits, the images of the second with the pixels of an image of the first.

    `hashes`, uint8 `(N, 8)`, are the sample hashes of each split. The keys are such as ``train/test``, in the order of
    the splits; pairs without duplicates are left out.
    """
    numbers = {name: np.ascontiguousarray(values).view(np.uint64).reshape(-1) for name, values in hashes.items()}
    counts = {
        f"{first}/{second}": int(np.isin(numbers[second], numbers[first]).sum())
        for first, second in combinations(numbers, 2)
    }
    return {pair: count for pair, count in counts.items() if count}
