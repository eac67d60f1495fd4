"""Runs every stage of a configuration with a fault at a chosen event, each time in a fork of this process.

    python fault_driver.py

Each line of standard input is a request in JSON: the fault, the number of its event, and the folder of the
configuration. When its fork has ended, its exit code is written to standard output. The fork's own output is in the
files `stdout` and `stderr` of the folder.

An event is the moment before or after a file is synced, renamed or removed, an optimizer step, or a query of an
attacked model. `kill` ends the process as a power failure would; `enospc` and `oom` raise the system's error
at the next event where it can occur; `none` counts the events and prints their number.

Only some figures are drawn: all of them would take longer than the other stages together.
"""

from __future__ import annotations

import errno
import functools
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import torch

from gauntlet import cli
from gauntlet.core import files
from gauntlet.learning.training.run import TrainingRun
from gauntlet.pipeline.forking.preloading import Preloaded
from gauntlet.registry import FIGURES
from gauntlet.robustness.attacks.base.model import AttackModel

LIMIT_S = 300
"""Seconds after which a fork is killed."""

STAGES = ("prepare", "train", "evaluate", "certify", "diagnose", "inspect", "aggregate", "figures", "tables", "report")
DRAWN = ("robust_accuracy", "certified_accuracy", "adversarial_examples", "first_layer_filters")


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


def count_events(injector: FaultInjector, owner: type, name: str, **raises: Exception) -> None:
    """Count an event before and after each call of a method."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def announcing(*arguments, **options):
        injector.event(raises)
        result = original(*arguments, **options)
        injector.event({})
        return result

    setattr(owner, name, announcing)


def count_all_events(injector: FaultInjector) -> None:
    """Count the events of files, trainings and attacks."""
    full = OSError(errno.ENOSPC, "No space left on device")
    exhausted = torch.OutOfMemoryError("out of memory, injected")
    count_events(injector, Path, "replace", enospc=full)
    count_events(injector, Path, "unlink")
    count_events(injector, files.os, "fsync", enospc=full)
    count_events(injector, TrainingRun, "_step")
    count_events(injector, AttackModel, "logits", oom=exhausted)
    count_events(injector, AttackModel, "gradients", oom=exhausted)


def run_stages(fault: str, event: int, folder: str) -> NoReturn:
    """Run every stage with a fault, in a fork of the process with the libraries."""
    code: object = 1
    signal.alarm(LIMIT_S)
    try:
        for name, stream in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(folder)
        gc.enable()
        injector = FaultInjector(fault, event)
        count_all_events(injector)
        for stage in STAGES:
            sys.argv = ["gauntlet", "--quiet", stage]
            try:
                cli.main()
            except SystemExit as ending:
                if ending.code:
                    raise
        sys.stdout.write(f"{injector.count}\n")
        code = 0
    except SystemExit as ending:
        code = ending.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Serve the requests on standard input."""
    FIGURES.catalog = {name: FIGURES.catalog[name] for name in DRAWN}
    torch.set_num_threads(1)
    preloaded = Preloaded()
    for stage in STAGES:
        preloaded.prepare(stage)
    for line in sys.stdin:
        fault, event, folder = json.loads(line)
        assert len(list(Path("/proc/self/task").iterdir())) == 1
        fork = os.fork()
        if fork == 0:
            run_stages(fault, event, folder)
        _, status = os.waitpid(fork, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
