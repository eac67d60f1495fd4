"""Targets of outputs that are independent propositions."""

from __future__ import annotations

import torch
from torch import Tensor

NEGATIVE = -1
"""The label of an image that belongs to no class."""


def binary_targets(labels: Tensor, outputs: Tensor) -> Tensor:
    """Give 1 for each label's class and 0 elsewhere, `(B, K)` like `outputs`; a NEGATIVE label has zeros throughout."""
    return (labels[:, None] == torch.arange(outputs.shape[1], device=labels.device)).to(outputs.dtype)
