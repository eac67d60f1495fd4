"""Learning rate schedules, one per file.

A schedule is a function ``(epoch, epochs, *, options) -> factor`` of the epoch, counted from 0, and the maximum number
of epochs; the factor multiplies the optimizer's learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

from gauntlet.registry import SCHEDULES, Spec

Schedule = Callable[[int, int], float]


def build_schedule(spec: Spec, *, warmup_epochs: int = 0) -> Schedule:
    """Build a schedule from its name and options, with linear warmup.

    In the first W = `warmup_epochs` epochs the factor of epoch e, counted from 0, is multiplied by (e + 1) / (W + 1)
    (Goyal et al. 2017, arXiv:1706.02677, section 2.2, here per epoch).
    """
    without_warmup = SCHEDULES.load(spec.name)

    def schedule(epoch: int, epochs: int) -> float:
        factor: float = without_warmup(epoch, epochs, **spec.options)
        return factor * min(1.0, (epoch + 1) / (warmup_epochs + 1))

    return schedule
