"""The contract of a kind of unit."""

from __future__ import annotations

from torch import nn


class Unit:
    """Makes the layers of one kind of unit: a linear layer is wrapped into what computes the unit from it.

    The base class leaves it alone. What `wrap` gives must hold `linear` among its modules, where first weights are
    drawn and regularisers look, and give outputs of the linear layer's shape.
    """

    def __init__(self) -> None:
        """Take no options."""

    def wrap(self, linear: nn.Conv2d | nn.Linear) -> nn.Module:
        """Make a layer around a convolution or a dense layer with bias."""
        return linear
