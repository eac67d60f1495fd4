"""Spherical units."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.units.unit import Unit
from gauntlet.registry import UNITS, NonNegativeFloat, PositiveFloat


class Spherical(nn.Module):
    """W x + b + a (1 - m) / 2 with a the strength of the ramp, and m the mean square of the inputs of a unit.

    `linear` has W and b and may be dense or a convolution without groups, for which m is the mean over the patch;
    padding counts as zeros.
    """

    def __init__(self, linear: nn.Conv2d | nn.Linear, ramp: Ramp) -> None:
        super().__init__()
        self.linear, self.ramp = linear, ramp

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs of `linear` to outputs of the shape of `linear`'s outputs."""
        linear, squares = self.linear, x * x
        if isinstance(linear, nn.Linear):
            mean_square = squares.mean(-1, keepdim=True)
        else:
            # The windows of all output channels are the same, so one channel of sums serves all of them.
            window = squares.new_ones(1, 1, *linear.kernel_size)
            sums = functional.conv2d(
                squares.sum(1, keepdim=True), window, None, linear.stride, linear.padding, linear.dilation
            )
            mean_square = sums / linear.weight[0].numel()
        response: Tensor = linear(x) + self.ramp() * 0.5 * (1 - mean_square)
        return response


@UNITS.register("spherical", closed=True, source="Le 2019, journal of logic-inspired networks, 21 October")
class SphericalUnit(Unit):
    """W x + b - a mean(x * x) / 2 + a / 2: positive inside a sphere only; a is the strength of a ramp.

    It is the elliptical unit of half the strength with all |V| equal to 1 / fan-in, and has no weights but W and b. The
    strength rises by `increment` per training step from `start` (negative: a delay) to `stop`.
    """

    def __init__(self, *, start: float = 0.0, increment: NonNegativeFloat = 0.001, stop: PositiveFloat = 1.0) -> None:
        self.start, self.increment, self.stop = start, increment, stop

    def wrap(self, linear: nn.Conv2d | nn.Linear) -> nn.Module:
        """Build a layer with the weights and biases of `linear` as W and b, and a separate ramp."""
        return Spherical(linear, Ramp(start=self.start, increment=self.increment, stop=self.stop))
