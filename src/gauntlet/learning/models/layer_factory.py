"""Layers of one kind of unit, folding and activation, with first weights that keep the size of what they pass on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.learning.models.activations import build_activation
from gauntlet.learning.models.foldings import build_folding
from gauntlet.learning.models.initialization import he
from gauntlet.learning.models.units import build_unit

_DRAWS = 2**14


class LayerFactory:
    """Makes layers of one kind; without arguments linear ones with relu.

    Arguments are mappings of `name` and options. A layer is as many times as wide as its folding has pieces; the
    activation is left to the network, which may have a pooling or a normalisation to place. `centred` layers start with
    biases at which a fold is 0 on average.
    """

    def __init__(
        self,
        *,
        unit: Mapping[str, Any] | None = None,
        folding: Mapping[str, Any] | None = None,
        activation: Mapping[str, Any] | None = None,
        centred: bool = True,
    ) -> None:
        self._unit, self._folding, self._activation, self._centred = build_unit(unit), folding, activation, centred

    def conv(self, before: int, after: int, size: int) -> nn.Sequential:
        """Make a convolution that keeps the map's size, and its folding: `(B, before, H, W)` to `(B, after, H, W)`."""
        folding = build_folding(self._folding)
        linear = nn.Conv2d(before, after * folding.pieces, size, padding=size // 2)
        return nn.Sequential(self._unit.wrap(linear), folding)

    def dense(self, before: int, after: int) -> nn.Sequential:
        """Make a dense layer and its folding: `(B, before)` to `(B, after)`."""
        folding = build_folding(self._folding)
        return nn.Sequential(self._unit.wrap(nn.Linear(before, after * folding.pieces)), folding)

    def activation(self) -> nn.Module:
        """Make an activation; one with a ramp is not shared between layers."""
        return build_activation(self._activation)

    def initialize(self, layer: nn.Module, moment: float) -> None:
        """Draw the first weights of a layer of this kind, or a head of such, for inputs of this mean square."""
        he(layer, moment, bias=self._bias)

    @cached_property
    def moment(self) -> float:
        """Estimate the mean square of an output after the activation, where the units' own are standard normal."""
        with torch.no_grad():
            return float(self.activation()(self._folded + self._bias).square().mean())

    @cached_property
    def _bias(self) -> float:
        # The largest of four is 1 on average: without a bias, two thirds of what a layer passes on are the same for
        # every image, and the network learns slowly.
        folded = build_folding(self._folding).pieces > 1
        return -float(self._folded.mean()) if self._centred and folded else 0.0

    @cached_property
    def _folded(self) -> Tensor:
        folding = build_folding(self._folding)
        folded: Tensor = folding(torch.randn(_DRAWS, folding.pieces, generator=torch.Generator().manual_seed(0)))
        return folded
