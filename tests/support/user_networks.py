"""Networks as a user writes them: found by import path, independent of this package."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """Network that takes the number of classes and of channels, and options."""

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.layers(x)
        return logits


class Free(Plain):
    """Network that accepts any option."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **options: int) -> None:
        super().__init__(image_shape[0], num_classes, **options)


class WrongShape(nn.Module):
    """Network with one number per image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to their means."""
        return x.flatten(1).mean(dim=1)


class NotFinite(nn.Module):
    """Network that divides by zero."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        """Map images to infinity."""
        return torch.full((len(x), self.num_classes), float("inf"))


class Failing(nn.Module):
    """Network that cannot be constructed."""

    def __init__(self) -> None:
        raise RuntimeError("no such thing\nand a second line")


class NoModule:
    """A class that is no network."""


def function() -> nn.Module:
    """Return a module that is no classifier."""
    return nn.Identity()
