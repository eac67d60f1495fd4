"""The Kantorovich-Rubinstein statistic: a loss's term, and a figure of every epoch that has that loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kantorovich_rubinstein(outputs: Tensor, labels: Tensor) -> Tensor:
    """Estimate the mean over classes k of E[o_k | y = k] - E[o_k | y != k] from logits `(B, K)`; returns `()`.

    An expectation over no sample counts as 0.
    """
    own = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    count = own.sum(dim=0)
    inside = (own * outputs).sum(dim=0) / count.clamp(min=1)
    outside = ((1 - own) * outputs).sum(dim=0) / (len(outputs) - count).clamp(min=1)
    return (inside - outside).mean()
