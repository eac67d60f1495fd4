"""Schedules: what the learning rate is multiplied with in each epoch; one a file.

A schedule is a function ``(epoch, epochs, *, options) -> factor`` of the epoch, from 0, and how many there are at most.
"""

from __future__ import annotations

from collections.abc import Callable

from gauntlet.registry import SCHEDULES, Spec

Schedule = Callable[[int, int], float]


def build_schedule(spec: Spec, *, warmup_epochs: int = 0) -> Schedule:
    """Load a schedule and bind its options.

    In each of the first `warmup_epochs` W its factor is lowered: epoch e, from 0, has (e + 1) / (W + 1) of it
    (Goyal et al. 2017, arXiv:1706.02677, section 2.2, by epochs).
    """
    follow = SCHEDULES.load(spec.name)

    def schedule(epoch: int, epochs: int) -> float:
        factor: float = follow(epoch, epochs, **spec.options)
        return factor * min(1.0, (epoch + 1) / (warmup_epochs + 1))

    return schedule
