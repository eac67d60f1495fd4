"""Cosine learning rate schedule after a linear warmup, per step."""

from __future__ import annotations

import math

from gauntlet.registry import SCHEDULES, Fraction, NonNegativeFloat


@SCHEDULES.register(
    "warmup_cosine",
    per="step",
    source="Loshchilov and Hutter 2017, arXiv:1608.03983; Goyal et al. 2017, arXiv:1706.02677",
)
def warmup_cosine(epoch: float, epochs: int, *, warmup_epochs: NonNegativeFloat = 5.0, end: Fraction = 0.0) -> float:
    """Raise the learning rate linearly for `warmup_epochs`, then lower it along half a cosine to `end` times it."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
