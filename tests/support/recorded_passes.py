"""A network of one's own that records the arithmetic of each pass, in whatever stage it is made."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tests.support.arithmetic import arithmetic
from tests.support.unsound_networks import Base


class Recorded(Base):
    """Two linear layers; all instances share the record: dtype, whether it is an attack's pass, settings."""

    PASSES: ClassVar[list[tuple[torch.dtype, list[Any]]]] = []

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        self.PASSES.append((x.dtype, [*arithmetic(), torch.is_autocast_enabled("cpu")]))
        return super().forward(x)


class Unpooled(Base):
    """An operation that has no deterministic kernel, on any device: torch writes to repeated indices in any order."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return super().forward(x + self.unpool(*self.pool(x)))
