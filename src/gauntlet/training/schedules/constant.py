"""The same learning rate throughout."""

from __future__ import annotations

from gauntlet.registry import SCHEDULES


@SCHEDULES.register("constant")
def constant(epoch: int, epochs: int) -> float:
    """Keep the optimiser's learning rate."""
    return 1.0
