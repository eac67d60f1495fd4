"""Layers of one unit, folding and activation, initialized so that the variance of activations is preserved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.learning.models.activations import build_activation
from gauntlet.learning.models.foldings import build_folding
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.initialization import he
from gauntlet.learning.models.network import Head
from gauntlet.learning.models.units import build_unit

_DRAWS = 2**14


class LayerFactory:
    """Factory of layers with the same unit, folding and activation; by default linear units with relu.

    Arguments are mappings of `name` and options. A layer is wider by the number of its folding's pieces. The network
    places the activation itself, since pooling or normalization may come before it. Layers that are `centered` have
    initial biases with which the mean after folding is 0.
    """

    def __init__(
        self,
        *,
        unit: Mapping[str, Any] | None = None,
        folding: Mapping[str, Any] | None = None,
        activation: Mapping[str, Any] | None = None,
        centered: bool = True,
    ) -> None:
        self._unit, self._folding, self._activation, self._centered = build_unit(unit), folding, activation, centered

    def conv(
        self, in_channels: int, out_channels: int, size: int, *, stride: int = 1, bias: bool = True
    ) -> nn.Sequential:
        """Build a convolution with padding, and its folding: `(B, in_channels, H, W)` to `(B, out_channels, H, W)`.

        H and W are divided by `stride`, rounded up.
        """
        folding = build_folding(self._folding)
        channels = out_channels * folding.pieces
        linear = nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2, bias=bias)
        return nn.Sequential(self._unit.wrap(linear), folding)

    def dense(self, in_features: int, out_features: int) -> nn.Sequential:
        """Build a dense layer and its folding: `(B, in_features)` to `(B, out_features)`."""
        folding = build_folding(self._folding)
        return nn.Sequential(self._unit.wrap(nn.Linear(in_features, out_features * folding.pieces)), folding)

    def head(self, head: Mapping[str, Any] | None, *, in_features: int, num_classes: int, moment: float) -> Head:
        """Build a head of such layers, initialized for features `(B, in_features)` whose mean square is `moment`."""
        built = build_head(
            head, in_features=in_features, num_classes=num_classes, layer=self.dense, activation=self.activation
        )
        self.initialize(built, moment)
        return built

    def activation(self) -> nn.Module:
        """Build a new activation, so that layers do not share a ramp."""
        return build_activation(self._activation)

    def initialize(self, layer: nn.Module, moment: float) -> None:
        """Initialize a layer, or a head of such layers, for inputs whose mean square is `moment`."""
        he(layer, moment, bias=self._initial_bias)

    @cached_property
    def moment(self) -> float:
        """Mean square of the activations if the outputs of the units are standard normal, estimated by sampling."""
        with torch.no_grad():
            return float(self.activation()(self._folded + self._initial_bias).square().mean())

    @cached_property
    def _initial_bias(self) -> float:
        # The maximum of four standard normal outputs is 1 on average. Without a bias two thirds of the mean square of
        # a layer's activations would be the same for every image, and the network would learn slowly.
        is_folded = build_folding(self._folding).pieces > 1
        return -float(self._folded.mean()) if self._centered and is_folded else 0.0

    @cached_property
    def _folded(self) -> Tensor:
        folding = build_folding(self._folding)
        folded: Tensor = folding(torch.randn(_DRAWS, folding.pieces, generator=torch.Generator().manual_seed(0)))
        return folded
