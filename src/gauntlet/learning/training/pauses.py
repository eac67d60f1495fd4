"""Pauses of a training, for a checkpoint or a requested stop, at the same step in all of its processes."""

from __future__ import annotations

import time
from collections.abc import Callable

from gauntlet.core.signals import StopRequest
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.data_parallel import DataParallelGroup

_INTERVAL_S = 1.0
"""Seconds between two agreements of several processes: one after each step would delay all of them."""


class Pauses:
    """Decision after each step whether training pauses: a checkpoint is due, or a stop is requested.

    Several processes agree on it after a number of steps that they agreed on before: about `_INTERVAL_S` seconds' worth
    by the slowest measured time, at most twice as many as the last time. So a request is honored within two intervals,
    and no process waits for one that is at another step.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        stop: StopRequest | None,
        processes: DataParallelGroup | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoints, self._stop, self._processes, self._clock = checkpoints, stop, processes, clock
        self._steps, self._interval, self._since_s = 0, 1, clock()
        self.requested, self.stopped = False, False

    def after_step(self) -> bool:
        """Return whether training pauses, the same in all processes; `requested` is that, `stopped` if for a stop."""
        stop = self._stop is not None and self._stop.requested
        due = self._checkpoints is not None and self._checkpoints.due()
        if self._processes is None:
            self.requested, self.stopped = stop or due, stop
            return self.requested
        self._steps += 1
        self.requested = False
        if self._steps >= self._interval:
            step_s = (self._clock() - self._since_s) / self._steps
            fitting = int(_INTERVAL_S / step_s) if step_s > 0 else 2 * self._interval
            interval = max(1, min(fitting, 2 * self._interval))
            any_stop, any_due, fewest = self._processes.maxima([int(stop), int(due), -interval])
            self._steps, self._interval, self._since_s = 0, -fewest, self._clock()
            self.requested, self.stopped = bool(any_stop or any_due), bool(any_stop)
        return self.requested
