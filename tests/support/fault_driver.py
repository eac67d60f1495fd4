"""Runs every stage of the configuration in the current folder, with a fault at a chosen event.

    python fault_driver.py FAULT EVENT

An event is the moment before or after a file is synced, renamed or removed, an optimizer step, or a query of an
attacked model. `kill` ends the process as a power failure would; `enospc` and `oom` raise the system's error
at the next event where it can occur; `none` counts the events and prints their number.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from pathlib import Path

import torch

from gauntlet import cli
from gauntlet.core import files
from gauntlet.learning.training.run import TrainingRun
from gauntlet.robustness.attacks.base.model import AttackModel

STAGES = ("prepare", "train", "evaluate", "certify", "diagnose", "inspect", "aggregate", "figures", "tables", "report")


class FaultInjector:
    """Counter of events that causes one fault at the chosen event or the next possible one."""

    def __init__(self, fault: str, at: int) -> None:
        self.fault, self.at, self.count, self.pending = fault, at, 0, at > 0

    def event(self, raises: dict[str, Exception]) -> None:
        """Count an event, and cause the fault if it is due; `raises` maps faults to errors possible here."""
        self.count += 1
        if self.count < self.at or not self.pending:
            return
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault in raises:
            self.pending = False
            raise raises[self.fault]


injector = FaultInjector(sys.argv[1], int(sys.argv[2]))


def count_events(owner: type, name: str, **raises: Exception) -> None:
    """Count an event before and after each call of a method."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def announcing(*arguments, **options):
        injector.event(raises)
        result = original(*arguments, **options)
        injector.event({})
        return result

    setattr(owner, name, announcing)


count_events(Path, "replace", enospc=OSError(errno.ENOSPC, "No space left on device"))
count_events(Path, "unlink")
count_events(files.os, "fsync", enospc=OSError(errno.ENOSPC, "No space left on device"))
count_events(TrainingRun, "_step")
count_events(AttackModel, "logits", oom=torch.OutOfMemoryError("out of memory, injected"))
count_events(AttackModel, "gradients", oom=torch.OutOfMemoryError("out of memory, injected"))

torch.set_num_threads(1)
for stage in STAGES:
    sys.argv = ["gauntlet", "--quiet", stage]
    try:
        cli.main()
    except SystemExit as ending:
        if ending.code:
            raise
sys.stdout.write(f"{injector.count}\n")
