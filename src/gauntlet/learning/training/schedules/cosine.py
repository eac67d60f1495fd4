"""Cosine learning rate schedule."""

from __future__ import annotations

import math

from gauntlet.registry import SCHEDULES


@SCHEDULES.register("cosine", source="Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts")
def cosine(epoch: int, epochs: int) -> float:
    """Decrease the learning rate from the optimizer's to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
