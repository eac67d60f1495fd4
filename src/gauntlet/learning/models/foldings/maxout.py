"""Maxout."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.foldings.folding import Folding, largest
from gauntlet.registry import FOLDINGS, PositiveInt


@FOLDINGS.register("maxout", source="Goodfellow et al. 2013, arXiv:1302.4389")
class Maxout(Folding):
    """Maximum of `pieces` outputs; the layer before is wider by this factor."""

    prefers_contiguous = True

    def __init__(self, *, pieces: PositiveInt = 4) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, pieces * C, ...)` to `(B, C, ...)`."""
        return largest(x, self.pieces)
