"""Base class of units."""

from __future__ import annotations

from torch import nn


class Unit:
    """Factory of layers of one kind of unit, each of which wraps a linear layer.

    The base class returns the linear layer itself. The module that `wrap` returns must contain `linear`, which is
    initialized and regularized, and have outputs of the same shape.
    """

    def __init__(self) -> None:
        """Accept no options."""

    def wrap(self, linear: nn.Conv2d | nn.Linear) -> nn.Module:
        """Build a layer from a convolution or a dense layer with bias."""
        return linear
