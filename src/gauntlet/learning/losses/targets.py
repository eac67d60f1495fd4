"""Targets of independent sigmoid outputs."""

from __future__ import annotations

import torch
from torch import Tensor


def binary_targets(labels: Tensor, outputs: Tensor) -> Tensor:
    """Return 1 for each label's class and 0 elsewhere, `(B, K)` like `outputs`; a label of -1 means no class."""
    return (labels[:, None] == torch.arange(outputs.shape[1], device=labels.device)).to(outputs.dtype)
