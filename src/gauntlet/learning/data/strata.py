"""Random choices of images that keep each class's share, decided by an address and stable across library versions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gauntlet.core.randomness import derive_seed


def shuffled(count: int, *address: str | int) -> Tensor:
    """Order 0..count-1 at random by an address: int64 `(count,)`."""
    # Of numpy's generators only the raw bits are promised to stay the same for ever.
    bits = np.random.PCG64(derive_seed("data", *address)).random_raw(count)
    return torch.from_numpy(np.argsort(bits, kind="stable"))


def divide(labels: Tensor, count: int, *address: str | int) -> tuple[Tensor, Tensor]:
    """Choose `count` of the samples so that each class keeps its share, to within one sample.

    Returns the positions of the rest and of the chosen, each in ascending order.
    """
    classes, sizes = torch.unique(labels, return_counts=True)
    shares = _shares(sizes.tolist(), count)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, share in zip(classes.tolist(), shares, strict=True):
        members = torch.nonzero(labels == label).flatten()
        order = shuffled(len(members), *address, label)
        chosen[members[order[:share]]] = True
    return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()


def _shares(sizes: list[int], count: int) -> list[int]:
    """Split `count` in proportion to `sizes`; what rounding leaves goes to the largest remainders, the first first."""
    total = sum(sizes)
    shares = [size * count // total for size in sizes]
    remainders = [size * count % total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda index: (-remainders[index], index))
    for index in order[: count - sum(shares)]:
        shares[index] += 1
    return shares
