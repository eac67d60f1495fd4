"""Base class of foldings."""

from __future__ import annotations

from torch import Tensor, nn


class Folding(nn.Module):
    """Reduction of each `pieces` adjacent channels (dimension 1) to one: `(B, pieces * C, ...)` to `(B, C, ...)`.

    The base class has one piece and is the identity.
    """

    pieces: int = 1

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, pieces * C, ...)` to `(B, C, ...)`."""
        return x
