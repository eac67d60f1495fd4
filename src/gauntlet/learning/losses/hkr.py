"""Hinge-regularized Kantorovich-Rubinstein loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein
from gauntlet.learning.models.network import Network
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
    """Hinge-regularized Kantorovich-Rubinstein loss, -KR + alpha H; outputs are logits `(B, K)`; returns `()`.

    H is `one_against_rest_hinge`. This is the form of the examples "HKR multiclass and fooling" of deel-lip and of
    earlier versions of deel-torchlip; `hkr_torchlip` is the form of deel-torchlip 1.0.5.
    """
    return alpha * one_against_rest_hinge(outputs, labels, margin) - kantorovich_rubinstein(outputs, labels)


def one_against_rest_hinge(outputs: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Average w max(0, margin - s o) over samples and classes of logits `(B, K)`; returns `()`.

    s = 1 and w = K - 1 for the label's class, s = -1 and w = 1 for the others.
    """
    num_classes = outputs.shape[1]
    is_label = functional.one_hot(labels, num_classes).bool()
    signed = torch.where(is_label, outputs, -outputs)
    weight = torch.where(is_label, num_classes - 1, 1)
    return (weight * functional.relu(margin - signed)).mean()
