"""Rectified logarithm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.registry import ACTIVATIONS, NonNegativeFloat, PositiveFloat


@ACTIVATIONS.register("relog", source="Le 2019, journal of logic-inspired networks")
class ReLog(nn.Module):
    """log(1 + b max(0, x)) / b with b = beta times the strength of a ramp: relu at first, a logarithm later.

    The strength rises by `increment` per training step from `start` (negative: a delay) to `stop`.
    """

    def __init__(
        self,
        *,
        beta: PositiveFloat = 1.0,
        start: float = 0.0,
        increment: NonNegativeFloat = 0.001,
        stop: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        self.beta, self.ramp = beta, Ramp(start=start, increment=increment, stop=stop)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, ...)` to the same shape."""
        beta = self.beta * self.ramp()
        y: Tensor = torch.log1p(beta * x.relu()) / beta
        return y
