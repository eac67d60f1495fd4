"""Runs every stage of the configuration in the current folder, and lets something go wrong at a chosen event.

    python driver.py FAULT EVENT

An event is the moment before or after a file is synced, renamed or removed, an optimiser step, or a query of an
attacked model. `kill` ends the process there as a power cut would; `enospc` and `oom` raise what the system would,
at the first event from there on where it could; `none` counts the events and prints their number.
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
    """Counts events, and lets one fault happen at the chosen one or at the first possible moment after it."""

    def __init__(self, fault: str, at: int) -> None:
        self.fault, self.at, self.count, self.pending = fault, at, 0, at > 0

    def event(self, raises: dict[str, Exception]) -> None:
        """Count one more event, and strike if it is time; `raises` says what each fault raises here."""
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
    """Make a method announce its beginning and its end."""
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
