"""Constant learning rate."""

from __future__ import annotations

from gauntlet.registry import SCHEDULES


@SCHEDULES.register("constant", source="Widrow and Hoff 1960, IRE WESCON, the constant step of least mean squares")
def constant(epoch: int, epochs: int) -> float:
    """Keep the optimizer's learning rate."""
    return 1.0
