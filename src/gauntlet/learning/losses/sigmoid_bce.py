"""Binary cross-entropy of sigmoid outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gauntlet.learning.losses.targets import binary_targets
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES


@LOSSES.register("sigmoid_bce", outputs=("sigmoid",), soft=True, source="Le 2019, journal of logic-inspired networks")
def sigmoid_bce(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of the binary cross-entropy; outputs are logits `(B, K)`; returns `(B,)`.

    A label of -1 means no class: all targets are 0.
    """
    targets = binary_targets(labels, outputs)
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)
