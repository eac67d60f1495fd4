"""Learning rate schedules, one per file.

A schedule is a function ``(epoch, epochs, *, options) -> factor`` of the epoch, counted from 0, and the maximum number
of epochs; the factor multiplies the optimizer's learning rate. A schedule with the tag ``per="step"`` is called before
each step, with the epochs that are done after it, fractions included: `epochs` in the last step.
"""

from __future__ import annotations

from gauntlet.registry import SCHEDULES, Spec


class Schedule:
    """Factor of the learning rate, with linear warmup.

    In the first W = `warmup_epochs` epochs the factor of epoch e, counted from 0, is multiplied by (e + 1) / (W + 1)
    (Goyal et al. 2017, arXiv:1706.02677, section 2.2, here per epoch); that of a schedule per step by t / W, with t the
    epochs that are done after the step.
    """

    def __init__(self, spec: Spec, *, warmup_epochs: int = 0) -> None:
        self._factor, self._options, self._warmup_epochs = SCHEDULES.load(spec.name), spec.options, warmup_epochs
        self._per_step = SCHEDULES.entry(spec.name).tags.get("per") == "step"

    def factor(self, epoch: int, epochs: int, *, step: int, steps: int) -> float:
        """Return the factor of step `step` of `steps`, counted from 0, of an epoch."""
        time = epoch + (step + 1) / steps if self._per_step else epoch
        risen, rise = (time, self._warmup_epochs) if self._per_step else (time + 1, self._warmup_epochs + 1)
        factor: float = self._factor(time, epochs, **self._options)
        return factor * (min(1.0, risen / rise) if rise else 1.0)
