"""Squared error of sigmoid outputs."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.losses.targets import binary_targets
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, PositiveFloat


@LOSSES.register("sigmoid_mse", outputs=("sigmoid",), soft=True, source="Le 2019, journal of logic-inspired networks")
def sigmoid_mse(network: Network, outputs: Tensor, labels: Tensor, *, positive_weight: PositiveFloat = 1.0) -> Tensor:
    """Mean over classes of w (sigmoid(o) - t)^2, w = `positive_weight` for the label's class (t = 1), 1 for the others.

    Outputs are logits `(B, K)`; a label of -1 means no class: all targets are 0; returns `(B,)`. The journal's weights
    are 9 for ten classes, and 19 with as many negatives as images.
    """
    targets = binary_targets(labels, outputs)
    errors = (outputs.sigmoid() - targets).square()
    return ((1 + (positive_weight - 1) * targets) * errors).mean(dim=1)
