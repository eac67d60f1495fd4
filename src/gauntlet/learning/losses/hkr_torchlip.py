"""Hinge-regularized Kantorovich-Rubinstein loss as in deel-torchlip 1.0.5."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.losses.hkr import one_against_rest_hinge
from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Fraction, PositiveFloat


@LOSSES.register(
    "hkr_torchlip",
    outputs=("logits",),
    batch=True,
    kr=True,
    source="deel-torchlip 1.0.5, HKRMulticlassLoss; Serrurier et al. 2021, arXiv:2006.06520",
)
def hkr_torchlip(
    network: Network,
    outputs: Tensor,
    labels: Tensor,
    *,
    alpha: Fraction = 0.99,
    min_margin: PositiveFloat = 1.0,
) -> Tensor:
    """Weight hinge and KR as alpha H - (1 - alpha) KR, with half of `min_margin` in H; logits `(B, K)`; returns `()`.

    H and KR are those of `hkr`: ``hkr`` with `alpha` a and `margin` m is a + 1 times this loss with `alpha` a / (a + 1)
    and `min_margin` 2 m; its 100 and 0.25 correspond to 100/101 and 0.5. deel-torchlip has no default for `alpha`: 0.99
    is the value of its current example, with a `min_margin` of 0.25; 1.0 is the default of the package.
    """
    hinge = one_against_rest_hinge(outputs, labels, min_margin / 2)
    return alpha * hinge - (1 - alpha) * kantorovich_rubinstein(outputs, labels)
