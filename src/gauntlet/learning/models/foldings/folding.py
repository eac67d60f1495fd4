"""The contract of a folding."""

from __future__ import annotations

from torch import Tensor, nn


class Folding(nn.Module):
    """Makes one output of every `pieces` neighbouring channels (dimension 1): `(B, pieces * C, ...)` to `(B, C, ...)`.

    The base class has one piece and changes nothing.
    """

    pieces: int = 1

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, pieces * C, ...)` to `(B, C, ...)`."""
        return x
