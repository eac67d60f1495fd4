"""A learning rate that falls along a cosine."""

from __future__ import annotations

import math

from gauntlet.registry import SCHEDULES


@SCHEDULES.register("cosine", source="Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts")
def cosine(epoch: int, epochs: int) -> float:
    """Fall from the optimiser's learning rate to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))
