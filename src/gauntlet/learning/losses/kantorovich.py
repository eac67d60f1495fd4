"""Kantorovich-Rubinstein statistic: a term of the HKR losses, and a metric of every epoch trained with one."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kantorovich_rubinstein(outputs: Tensor, labels: Tensor) -> Tensor:
    """Estimate the mean over classes k of E[o_k | y = k] - E[o_k | y != k] from logits `(B, K)`; returns `()`.

    An expectation over an empty set counts as 0.
    """
    one_hot = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    count = one_hot.sum(dim=0)
    inside = (one_hot * outputs).sum(dim=0) / count.clamp(min=1)
    outside = ((1 - one_hot) * outputs).sum(dim=0) / (len(outputs) - count).clamp(min=1)
    return (inside - outside).mean()
