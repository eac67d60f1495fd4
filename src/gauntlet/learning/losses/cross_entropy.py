"""Cross-entropy of softmax outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Fraction


@LOSSES.register("cross_entropy", outputs=("logits",), soft=True, source="Bridle 1990")
def cross_entropy(network: Network, outputs: Tensor, labels: Tensor, *, label_smoothing: Fraction = 0.0) -> Tensor:
    """Negative log-likelihood of the label under softmax; outputs are logits `(B, K)`; returns `(B,)`.

    With `label_smoothing` that share of each target is spread evenly over all K classes, including the label's own
    (Szegedy et al. 2016, arXiv:1512.00567); this applies to validation losses as well.
    """
    return functional.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing)
