"""A strength that rises with the training steps, so that a network turns from one kind into another while it learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 1e-4


class Ramp(nn.Module):
    """A strength of `start` + `increment` per training step, at most `stop`; `start` may be negative, a delay.

    What is stored, with the weights, is the number of steps: a network is evaluated at the strength of the epoch that
    was kept, and after an interruption the strength goes on where it was, to the last bit.
    """

    step: Tensor

    def __init__(self, *, start: float = 0.0, increment: float = 0.001, stop: float = 1.0) -> None:
        super().__init__()
        self.start, self.increment, self.stop = start, increment, stop
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def advance(self) -> None:
        """Take note of one training step."""
        self.step += 1

    @property
    def strength(self) -> Tensor:
        """The strength `()` as it stands, negative during a delay."""
        return (self.start + self.increment * self.step).clamp(max=self.stop)

    def forward(self) -> Tensor:
        """Give the effective strength `()`: never below 1e-4, so that it may be divided by."""
        return self.strength.clamp(min=FLOOR)

    def extra_repr(self) -> str:
        """Show the three numbers."""
        return f"start={self.start}, increment={self.increment}, stop={self.stop}"
