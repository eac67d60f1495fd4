"""The hinge-regularised Kantorovich-Rubinstein loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.losses.kantorovich import kantorovich_rubinstein
from gauntlet.models.network import Network
from gauntlet.registry import LOSSES, NonNegativeFloat, PositiveFloat


@LOSSES.register(
    "hkr", outputs=("logits",), batch=True, kr=True, source="Serrurier et al. 2021, arXiv:2006.06520, multiclass"
)
def hkr(
    network: Network,
    outputs: Tensor,
    labels: Tensor,
    *,
    alpha: NonNegativeFloat = 100.0,
    margin: PositiveFloat = 0.25,
) -> Tensor:
    """Hinge-regularised Kantorovich-Rubinstein loss, -KR + alpha H; outputs are logits `(B, K)`; returns `()`.

    H is the mean over samples and classes of w max(0, margin - s o), with s = 1 and w = K - 1 for the label's class,
    s = -1 and w = 1 for the others. deel-torchlip's loss with alpha' = alpha / (alpha + 1) and min_margin = 2 margin
    is this one divided by alpha + 1.
    """
    num_classes = outputs.shape[1]
    own = functional.one_hot(labels, num_classes).bool()
    signed = torch.where(own, outputs, -outputs)
    weight = torch.where(own, num_classes - 1, 1)
    return alpha * (weight * functional.relu(margin - signed)).mean() - kantorovich_rubinstein(outputs, labels)
