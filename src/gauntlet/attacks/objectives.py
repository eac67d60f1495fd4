"""What a gradient attack ascends, given as the derivative with respect to the logits.

Steepest-ascent steps use only the direction of a sample's gradient, so each derivative is given up to a positive
factor per sample, chosen so that it cannot underflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor], Tensor]
"""`(logits (B, K), labels (B,)) -> derivative (B, K)`."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Derivative of the cross-entropy, divided by 1 - p_y.

    The quotient is softmax over the other classes minus the unit vector of the label: it stays of size one where the
    softmax saturates and the plain derivative rounds to zero.
    """
    column = labels[:, None]
    others = logits.scatter(1, column, -torch.inf).softmax(1)
    return others.scatter(1, column, -1.0)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Derivative of max_{i != y} z_i - z_y (Carlini and Wagner 2017, f_6 without its floor)."""
    column = labels[:, None]
    rival = logits.scatter(1, column, -torch.inf).argmax(1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, rival, 1.0).scatter_(1, column, -1.0)


OBJECTIVES: Mapping[str, Objective] = MappingProxyType({"cross_entropy": cross_entropy, "margin": margin})
