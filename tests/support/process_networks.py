"""Networks whose state lives in the process that built them, and sound relatives.

Draws at module level happen when this file is imported, which is before the first of its networks is built.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.unsound_networks import Base

ORDER = np.random.default_rng().permutation(64)
SEEDED_ORDER = torch.randperm(64)
"""The generators are seeded while a network's module is imported, so that this is the same in each process."""


@functools.lru_cache
def cached_order(size: int) -> Any:
    """Return one permutation for all networks of the process."""
    return np.random.permutation(size)


@functools.lru_cache
def constructed_order(size: int) -> Any:
    """Return one permutation for all networks of the process."""
    return np.random.permutation(size)


class Ordered(Base):
    """Linear layers on pixels in some order."""

    order: Any = None

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1)[:, torch.as_tensor(self.order)])


class OfModule(Ordered):
    """An order drawn at module level, from fresh entropy."""

    order = ORDER


class OfClass(Ordered):
    """An order drawn by the first construction."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        if OfClass.order is None:
            OfClass.order = torch.randperm(64)


class OfLastConstruction(Ordered):
    """An order drawn by each construction, for all networks of the class."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        OfLastConstruction.order = torch.randperm(64)


class OfCache(Base):
    """An order in a cache, drawn by the first forward."""

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1)[:, cached_order(64).copy()])


class OfCacheAtConstruction(Ordered):
    """An order in a cache, drawn by the first construction."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.order = constructed_order(64).copy()


class OfHashes(Ordered):
    """The order of a set of strings, which each process hashes in its own way."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.order = [int(key) for key in {str(index) for index in range(64)}]


class Unused(Base):
    """Sound: the draws at module level have no effect on it."""


class OfSeededModule(Ordered):
    """Sound: an order drawn at module level, from a global generator."""

    order = SEEDED_ORDER


class Registered(Base):
    """Sound: the order at module level is the initial value of a buffer."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.register_buffer("order", torch.as_tensor(ORDER))

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x.flatten(1)[:, self.order])


class Grid(Base):
    """Sound: a tensor made by the first forward, on the device of its images."""

    grid: Any = None

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        if self.grid is None:
            self.grid = torch.linspace(0, 1, self.size, device=x.device)
        return super().forward(x.flatten(1) * self.grid)
