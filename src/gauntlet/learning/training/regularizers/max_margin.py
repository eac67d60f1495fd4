"""Max-margin: small weights in every layer, independent of its size."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.learning.training.regularizers import Regularizer, sum_penalties, weights_and_biases
from gauntlet.registry import REGULARIZERS, NonNegativeFloat, PositiveInt


@REGULARIZERS.register("max_margin", source="Le 2019, journal of logic-inspired networks")
class MaxMargin(Regularizer):
    """Max-margin: the sum over layers of l1 x mean |w| + l2 x mean w².

    Because of the means, a small layer counts as much as a large one.
    """

    def __init__(
        self, *, l1: NonNegativeFloat = 0.01, l2: NonNegativeFloat = 0.0, start_epoch: PositiveInt = 1
    ) -> None:
        self.l1, self.l2, self.start_epoch = l1, l2, start_epoch

    def penalty(self, network: Network) -> Tensor:
        """Compute the penalty `()`."""
        return sum_penalties(
            self.l1 * weight.abs().mean() + self.l2 * weight.square().mean()
            for weight, _ in weights_and_biases(network)
        )
