"""Logits of independent sigmoids: each class is a separate proposition, and all may be false."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.heads.dense import BuildActivation, Layer, dense
from gauntlet.learning.models.network import Head
from gauntlet.registry import HEADS, NonNegativeInt


@HEADS.register("sigmoid", outputs=("sigmoid",), source="Le 2019, journal of logic-inspired networks")
class SigmoidHead(Head):
    """Dense(K): the logits of one sigmoid per class. With `hidden`, dense(hidden) and relu before it.

    The prediction is the class of the largest logit, and its confidence the sigmoid of that logit: all classes can be
    improbable at once.
    """

    def __init__(
        self,
        *,
        in_features: int,
        num_classes: int,
        hidden: NonNegativeInt = 0,
        layer: Layer | None = None,
        activation: BuildActivation | None = None,
    ) -> None:
        super().__init__()
        self.layers = dense(in_features, hidden, num_classes, layer, activation)

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to logits `(B, K)`."""
        logits: Tensor = self.layers(features)
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of each logit `(B, K)`; rows need not sum to 1."""
        return logits.sigmoid()
