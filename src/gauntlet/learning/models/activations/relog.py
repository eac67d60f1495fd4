"""Rectified logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.registry import ACTIVATIONS, AboveOne, NonNegativeFloat, PositiveFloat


@ACTIVATIONS.register("relog", source="Le 2019, journal of logic-inspired networks")
class ReLog(nn.Module):
    """log(1 + b max(0, x)) / b with b = beta times the strength of a ramp: relu at first, a logarithm later.

    The strength rises by `increment` per training step from `start` (negative: a delay) to `stop`. With a `base` the
    output is multiplied by beta / ln(base), so that at strength 1 it is the logarithm of 1 + beta max(0, x) to this
    base; the journal's ReLog(n) is `beta: n, base: n, start: 1`. `shift` is added to all outputs: -0.5 in place of
    batch normalization.
    """

    def __init__(
        self,
        *,
        beta: PositiveFloat = 1.0,
        base: AboveOne | None = None,
        shift: float = 0.0,
        start: float = 0.0,
        increment: NonNegativeFloat = 0.001,
        stop: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        self.beta, self.ramp = beta, Ramp(start=start, increment=increment, stop=stop)
        self.scale, self.shift = 1.0 if base is None else beta / math.log(base), shift

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, ...)` to the same shape."""
        beta = self.beta * self.ramp()
        y: Tensor = torch.log1p(beta * x.relu()) / beta
        if self.scale != 1:
            y = self.scale * y
        return y + self.shift if self.shift else y
