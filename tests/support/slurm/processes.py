"""Processes of the jobs of a cluster, frozen or killed from outside."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def step_daemons(log: Path, jobs: Iterable[str] | None = None) -> list[psutil.Process]:
    """List the step daemons of some jobs, by default of all jobs, of the node that writes a log."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.info["name"] == "slurmstepd" and str(log) in {file.path for file in process.open_files()}:
                # Its command line is `slurmstepd: [12.batch]`.
                job = " ".join(process.cmdline()).partition("[")[2].partition(".")[0]
                if jobs is None or job in jobs:
                    found.append(process)
    return found


def descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """List the processes that some processes have started, and those that these have started."""
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.children(recursive=True)
    return found


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to the processes that have not ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def stop_descendants(processes: Iterable[psutil.Process]) -> bool:
    """Stop what some processes have started, until no process is found that was started meanwhile.

    Return whether any is stopped: others had already ended.
    """
    processes = list(processes)
    stopped: set[psutil.Process] = set()
    while found := set(descendants(processes)) - stopped:
        send(found, signal.SIGSTOP)
        while any(state(process) not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, "") for process in found):
            time.sleep(0.01)
        stopped |= found
    return any(state(process) == psutil.STATUS_STOPPED for process in stopped)


def state(process: psutil.Process) -> str:
    """Return the state of a process; empty once it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status()
    return ""
