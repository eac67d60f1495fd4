"""Logits of softmax probabilities."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.heads.dense import BuildActivation, Layer, dense
from gauntlet.learning.models.network import Head
from gauntlet.registry import HEADS, NonNegativeInt


@HEADS.register("softmax", outputs=("logits",), source="Bridle 1990")
class SoftmaxHead(Head):
    """Dense(hidden), relu, dense(K): logits. With `hidden: 0` a single dense layer."""

    def __init__(
        self,
        *,
        in_features: int,
        num_classes: int,
        hidden: NonNegativeInt = 64,
        layer: Layer | None = None,
        activation: BuildActivation | None = None,
    ) -> None:
        super().__init__()
        self.layers = dense(in_features, hidden, num_classes, layer, activation)

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to logits `(B, K)`."""
        logits: Tensor = self.layers(features)
        return logits
