"""Units with squared inputs, the common base of elliptical and quadratic units."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.units.unit import Unit
from gauntlet.registry import NonNegativeFloat, PositiveFloat

GAMMA = 1.0


class SecondOrder(nn.Module):
    """W x + b - a V (x * x) + a gamma with gamma = 1 and a the strength of the ramp; |V| replaces V if `positive`.

    `linear` has W and b and may be dense or a convolution; `curvature` is V, which has the shape of W.
    """

    def __init__(self, linear: nn.Conv2d | nn.Linear, ramp: Ramp, *, positive: bool) -> None:
        super().__init__()
        self.linear, self.ramp, self.positive = linear, ramp, positive
        self.curvature = nn.Parameter(torch.empty_like(linear.weight))
        # |V| is 1 / fan_in on average, so that for inputs of mean square 1 its term cancels gamma: as the ramp rises,
        # responses neither fall below the activation's threshold for all inputs nor rise above it.
        nn.init.uniform_(self.curvature, -2 / linear.weight[0].numel(), 2 / linear.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs of `linear` to outputs of the shape of `linear`'s outputs."""
        linear, strength = self.linear, self.ramp()
        curvature = self.curvature.abs() if self.positive else self.curvature
        bias = strength * GAMMA + (linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias)
        # W x + b - a V (x * x) + a gamma as one layer with the inputs x and x * x.
        weight = torch.cat((linear.weight, -strength * curvature), 1)
        if isinstance(linear, nn.Linear):
            return functional.linear(torch.cat((x, x * x), -1), weight, bias)
        groups = x.unflatten(1, (linear.groups, -1))
        both = torch.cat((groups, groups * groups), 2).flatten(1, 2)
        return functional.conv2d(both, weight, bias, linear.stride, linear.padding, linear.dilation, linear.groups)


class SecondOrderUnit(Unit):
    """Base class of units with squared inputs; subclasses define whether |V| replaces V."""

    positive: bool

    def __init__(self, *, start: float = 0.0, increment: NonNegativeFloat = 0.001, stop: PositiveFloat = 1.0) -> None:
        self.start, self.increment, self.stop = start, increment, stop

    def wrap(self, linear: nn.Conv2d | nn.Linear) -> nn.Module:
        """Build a layer with the weights and biases of `linear` as W and b, and a separate ramp."""
        ramp = Ramp(start=self.start, increment=self.increment, stop=self.stop)
        return SecondOrder(linear, ramp, positive=self.positive)
