"""Maximum of minima: a disjunction of conjunctions."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.foldings.folding import Folding, largest, smallest
from gauntlet.registry import FOLDINGS, PositiveInt


@FOLDINGS.register("minmaxout", minimum=True, source="Le 2019, journal of logic-inspired networks")
class MinMaxout(Folding):
    """Maximum of `max_over` minima of `min_over` outputs each; the layer before is wider by their product.

    The journal's ``minmaxout_2_4`` is `min_over: 2, max_over: 4`.
    """

    prefers_contiguous = True

    def __init__(self, *, min_over: PositiveInt = 2, max_over: PositiveInt = 4) -> None:
        super().__init__()
        self.min_over, self.max_over = min_over, max_over
        self.pieces = min_over * max_over

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, min_over * max_over * C, ...)` to `(B, C, ...)`."""
        return largest(smallest(x, self.min_over), self.max_over)
