"""Cross-entropy of softmax outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gauntlet.models.network import Network
from gauntlet.registry import LOSSES


@LOSSES.register("cross_entropy", outputs=("logits",), source="Bridle 1990")
def cross_entropy(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the label under softmax; outputs are logits `(B, K)`; returns `(B,)`."""
    return functional.cross_entropy(outputs, labels, reduction="none")
