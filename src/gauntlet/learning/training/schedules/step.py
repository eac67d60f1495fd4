"""Stepwise learning rate schedule."""

from __future__ import annotations

from gauntlet.registry import SCHEDULES, Fraction, PositiveInt


@SCHEDULES.register("step", source="He et al. 2016, arXiv:1512.03385, section 3.4")
def step(epoch: int, epochs: int, *, milestones: tuple[PositiveInt, ...], factor: Fraction = 0.1) -> float:
    """Multiply the learning rate by `factor` after each of the epochs `milestones`, counted from 1."""
    return factor ** sum(epoch >= milestone for milestone in milestones)
