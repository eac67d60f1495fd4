"""Hinge-regularized Kantorovich-Rubinstein loss whose other classes are weighted by a softmax of their logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Fraction, PositiveFloat

_SMALLEST_MEAN, _LARGEST_MEAN = 0.005, 1000.0
_SMALLEST_TEMPERATURE, _LARGEST_TEMPERATURE = 0.005, 250.0


@LOSSES.register(
    "soft_hkr",
    outputs=("logits",),
    kr=True,
    state=True,
    source="deel-torchlip 1.0.5, SoftHKRMulticlassLoss; Serrurier et al. 2023, arXiv:2206.06854",
)
class SoftHkr(nn.Module):
    """Sum over classes of w (alpha max(0, m - s o) - (1 - alpha) s o), with m half of `min_margin`.

    s = 1 and w = 1 for the label's class; s = -1 and w = softmax(t o) over the other classes. The factor t is
    `temperature` times `min_margin`, divided by a running mean of |o| if that is above `min_margin`; `alpha_mean` is
    the weight of its past. The mean is updated by training steps only and is part of the training's state. The defaults
    are the values of the package's current example; those of the package are 0.9, 1, 1 and 0.99.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        alpha: Fraction = 0.995,
        min_margin: PositiveFloat = 0.1,
        temperature: PositiveFloat = 50.0,
        alpha_mean: Fraction = 0.99,
    ) -> None:
        super().__init__()
        self.alpha, self.min_margin, self.alpha_mean = alpha, min_margin, alpha_mean
        self.temperature = temperature * min_margin
        self.register_buffer("mean", torch.tensor(float(min_margin)))

    def forward(self, network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss `(B,)` of logits `(B, K)`; in training mode, update the running mean first."""
        mean = self._updated_mean(outputs) if self.training else self.mean
        factor = (self.temperature / mean.clamp(min=self.min_margin)).clamp(_SMALLEST_TEMPERATURE, _LARGEST_TEMPERATURE)
        is_label = functional.one_hot(labels, outputs.shape[1]).bool()
        scaled = factor.to(outputs.dtype) * outputs
        shares = scaled.masked_fill(is_label, torch.finfo(torch.float32).min).softmax(dim=1)
        weight = torch.where(is_label, 1.0, shares)
        signed = torch.where(is_label, outputs, -outputs)
        hinge = functional.relu(self.min_margin / 2 - signed)
        return (weight * (self.alpha * hinge - (1 - self.alpha) * signed)).sum(dim=1)

    def _updated_mean(self, outputs: Tensor) -> Tensor:
        """Update the running mean of |o| and return it, not yet limited to its range."""
        batch_mean = outputs.detach().abs().mean().to(self.mean.dtype)
        mean = self.alpha_mean * self.mean + (1 - self.alpha_mean) * batch_mean
        self.mean.copy_(mean.clamp(_SMALLEST_MEAN, _LARGEST_MEAN))
        return mean
