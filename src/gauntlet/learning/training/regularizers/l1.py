"""L1 penalty."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.learning.training.regularizers import Regularizer, sum_penalties, weights_and_biases
from gauntlet.registry import REGULARIZERS, NonNegativeFloat, PositiveInt


@REGULARIZERS.register("l1", source="Tibshirani 1996, JRSS B 58(1)")
class L1(Regularizer):
    """L1 penalty: strength x the sum of |w| over all weights of all layers; the baseline of max_margin and max_fit."""

    def __init__(self, *, strength: NonNegativeFloat = 1e-5, start_epoch: PositiveInt = 1) -> None:
        self.strength, self.start_epoch = strength, start_epoch

    def penalty(self, network: Network) -> Tensor:
        """Compute the penalty `()`."""
        return self.strength * sum_penalties(weight.abs().sum() for weight, _ in weights_and_biases(network))
