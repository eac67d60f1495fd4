"""Training losses: functions of a network, its raw outputs and the labels.

A loss returns one value per sample, `(B,)`, or a single value `()` where it is a statistic of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.models.network import Network
from gauntlet.registry import LOSSES, NonNegativeFloat, PositiveFloat, Spec

Loss = Callable[[Network, Tensor, Tensor], Tensor]


def build_loss(spec: Spec) -> Loss:
    """Load a loss and bind its options."""
    return partial(LOSSES.load(spec.name), **spec.options)


@LOSSES.register("cross_entropy", outputs=("logits",), source="Bridle 1990")
def cross_entropy(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the label under softmax; outputs are logits `(B, K)`; returns `(B,)`."""
    return functional.cross_entropy(outputs, labels, reduction="none")


@LOSSES.register("hinge", outputs=("codes",), source="Verma and Swami 2019, NeurIPS")
def hinge(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over code bits of max(0, 1 - c o), c the label's codeword; outputs are bits `(B, L)`; returns `(B,)`."""
    code: Any = network.head.code
    return functional.relu(1 - code[labels] * outputs).mean(dim=1)


@LOSSES.register("hkr", outputs=("logits",), batch=True, source="Serrurier et al. 2021, arXiv:2006.06520, multiclass")
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


def kantorovich_rubinstein(outputs: Tensor, labels: Tensor) -> Tensor:
    """Estimate the mean over classes k of E[o_k | y = k] - E[o_k | y != k] from logits `(B, K)`; returns `()`.

    An expectation over no sample counts as 0.
    """
    own = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    count = own.sum(dim=0)
    inside = (own * outputs).sum(dim=0) / count.clamp(min=1)
    outside = ((1 - own) * outputs).sum(dim=0) / (len(outputs) - count).clamp(min=1)
    return (inside - outside).mean()
