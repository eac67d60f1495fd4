"""Ramp: a strength that rises with the training steps, to introduce a nonlinearity gradually."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 1e-4


class Ramp(nn.Module):
    """Strength that rises from `start` by `increment` per training step to `stop`; a negative `start` is a delay.

    The number of steps is stored with the weights: a network is evaluated with the strength of its kept epoch, and a
    resumed training continues with exactly the same strength.
    """

    step: Tensor

    def __init__(self, *, start: float = 0.0, increment: float = 0.001, stop: float = 1.0) -> None:
        super().__init__()
        self.start, self.increment, self.stop = start, increment, stop
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def advance(self) -> None:
        """Count a training step."""
        self.step += 1

    @property
    def strength(self) -> Tensor:
        """Current strength `()`, negative during a delay."""
        return (self.start + self.increment * self.step).clamp(max=self.stop)

    @property
    def rising(self) -> bool:
        """True until the strength is `stop`; never of one that does not rise."""
        return self.increment > 0 and bool(self.strength < self.stop)

    def forward(self) -> Tensor:
        """Return the effective strength `()`: at least 1e-4, so that it can be divided by."""
        return self.strength.clamp(min=FLOOR)

    def extra_repr(self) -> str:
        """Return the three numbers for `repr`."""
        return f"start={self.start}, increment={self.increment}, stop={self.stop}"
