"""Stratified random samples, seeded by an address and stable across library versions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gauntlet.core.randomness import derive_seed


def random_permutation(count: int, *address: str | int) -> Tensor:
    """Return a random permutation of 0..count-1, int64 `(count,)`, seeded by an address."""
    # NumPy guarantees only the raw bits of its generators across versions.
    bits = np.random.PCG64(derive_seed("data", *address)).random_raw(count)
    return torch.from_numpy(np.argsort(bits, kind="stable"))


def stratified_split(labels: Tensor, count: int, *address: str | int) -> tuple[Tensor, Tensor]:
    """Sample `count` of the samples, stratified by class to within one sample.

    Returns the indices of the other samples and of the sampled ones, each in ascending order.
    """
    classes, sizes = torch.unique(labels, return_counts=True)
    shares = _shares(sizes.tolist(), count)
    sampled = torch.zeros(len(labels), dtype=torch.bool)
    for label, share in zip(classes.tolist(), shares, strict=True):
        members = torch.nonzero(labels == label).flatten()
        order = random_permutation(len(members), *address, label)
        sampled[members[order[:share]]] = True
    return torch.nonzero(~sampled).flatten(), torch.nonzero(sampled).flatten()


def _shares(sizes: list[int], count: int) -> list[int]:
    """Split `count` in proportion to `sizes` by the largest remainder method; ties go to the first."""
    total = sum(sizes)
    shares = [size * count // total for size in sizes]
    remainders = [size * count % total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda index: (-remainders[index], index))
    for index in order[: count - sum(shares)]:
        shares[index] += 1
    return shares
