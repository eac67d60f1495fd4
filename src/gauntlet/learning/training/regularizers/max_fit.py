"""Max-fit, called "strictening" in the journal: max-margin that also lowers biases."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.learning.training.regularizers import Regularizer, sum_penalties, weights_and_biases
from gauntlet.learning.training.regularizers.max_margin import MaxMargin
from gauntlet.registry import REGULARIZERS, NonNegativeFloat, PositiveInt


@REGULARIZERS.register("max_fit", source="Le 2019, journal of logic-inspired networks")
class MaxFit(Regularizer):
    """Max-fit: the sum over layers of l1 x mean |w| + l2 x mean w² + bias x mean(b), with the sign of b.

    Layers without a bias lack the last term. The penalty has no lower bound: biases fall until the loss stops them.
    """

    def __init__(
        self,
        *,
        l1: NonNegativeFloat = 0.01,
        l2: NonNegativeFloat = 0.0,
        bias: NonNegativeFloat = 0.01,
        start_epoch: PositiveInt = 1,
    ) -> None:
        self.margin, self.bias, self.start_epoch = MaxMargin(l1=l1, l2=l2), bias, start_epoch

    def penalty(self, network: Network) -> Tensor:
        """Compute the penalty `()`."""
        biases = (self.bias * bias.mean() for _, bias in weights_and_biases(network) if bias is not None)
        return self.margin.penalty(network) + sum_penalties(biases)
