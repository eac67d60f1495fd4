"""L2 penalty."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.learning.training.regularizers import Regularizer, sum_penalties, weights_and_biases
from gauntlet.registry import REGULARIZERS, NonNegativeFloat, PositiveInt


@REGULARIZERS.register("l2", source="Krogh and Hertz 1991, NeurIPS")
class L2(Regularizer):
    """L2 penalty: strength x the sum of w² over all weights of all layers; the baseline of max_margin and max_fit.

    An optimizer's `weight_decay` d is the gradient of strength d / 2, but on biases and all other parameters too.
    """

    def __init__(self, *, strength: NonNegativeFloat = 1e-4, start_epoch: PositiveInt = 1) -> None:
        self.strength, self.start_epoch = strength, start_epoch

    def penalty(self, network: Network) -> Tensor:
        """Compute the penalty `()`."""
        return self.strength * sum_penalties(weight.square().sum() for weight, _ in weights_and_biases(network))
