"""Success as an attack may know it."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.attacks.model import AttackModel


def misclassified(model: AttackModel, logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Say which images x `(B, C, H, W)` fool the model, bool `(B,)`; in a transfer, which fool the sources.

    `logits` `(B, K)` are those of `model.logits` at x; unlike `model.fooled`, this always answers.
    """
    if model.transfers:
        return (logits.argmax(1) != y) & logits.isfinite().all(1)
    fooled = model.fooled(logits, x, y)
    return torch.zeros(len(x), dtype=torch.bool, device=x.device) if fooled is None else fooled
