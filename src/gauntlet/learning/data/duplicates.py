"""Images that occur in two splits of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations

from gauntlet.learning.data.splits import Split


def count_duplicates(splits: Mapping[str, Split]) -> dict[str, int]:
    """Count, for each pair of splits, the images of the second with the pixels of an image of the first.

    The keys are such as ``train/test``, in the order of `splits`; pairs without duplicates are left out.
    """
    hashes = {name: _hashes(split) for name, split in splits.items()}
    counts = {}
    for first, second in combinations(splits, 2):
        known = set(hashes[first])
        counts[f"{first}/{second}"] = sum(value in known for value in hashes[second])
    return {pair: count for pair, count in counts.items() if count}


def _hashes(split: Split) -> list[bytes]:
    # All images have the same shape, and equal bytes are equal values in [0, 1].
    images = split.images.contiguous().numpy()
    return [hashlib.blake2b(image.data, digest_size=16).digest() for image in images]
