"""Hinge-regularized Kantorovich-Rubinstein loss on the label's logit and a soft maximum of the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Fraction, PositiveFloat


@LOSSES.register("lse_hkr", outputs=("logits",), kr=True, source="deel-torchlip 1.0.5, LseHKRMulticlassLoss")
def lse_hkr(
    network: Network,
    outputs: Tensor,
    labels: Tensor,
    *,
    alpha: Fraction = 0.9,
    min_margin: PositiveFloat = 1.0,
    temperature: PositiveFloat = 10.0,
    penalty: PositiveFloat = 1.0,
) -> Tensor:
    """Compute alpha (max(0, m - p) + max(0, m + n)) - (1 - alpha) (p - n) of logits `(B, K)`; returns `(B,)`.

    p is the label's logit times `temperature`, n = ln(sum exp(t o)) / t over the other logits o times `temperature`,
    m half of `min_margin`, and t = ln(K - 1) / (m `penalty`): n is at most m `penalty` above the largest other logit.
    The defaults are the values of the package's current example; those of the package are 1, 1, 1 and 1.
    """
    margin, scaled = min_margin / 2, temperature * outputs
    is_label = functional.one_hot(labels, outputs.shape[1]).bool()
    label_logit = scaled.gather(1, labels[:, None])[:, 0]
    # With one other class the package divides by 0, and n is its logit for any t.
    sharpness = math.log(outputs.shape[1] - 1) / (margin * penalty) or 1.0
    others = torch.logsumexp(sharpness * scaled.masked_fill(is_label, -torch.inf), dim=1) / sharpness
    hinge = functional.relu(margin - label_logit) + functional.relu(margin + others)
    return alpha * hinge - (1 - alpha) * (label_logit - others)
