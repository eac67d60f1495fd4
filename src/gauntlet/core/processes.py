"""Identity of processes, across hosts and reused process ids."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
from pydantic import BaseModel, ConfigDict

_TOLERANCE_S = 2.0
_START_FIELD = 19
"""Index of `starttime` among the fields of /proc/PID/stat that follow the name."""


class ProcessIdentity(BaseModel):
    """A process by host, id and start time; the last distinguishes a process with a reused id.

    `born_s` counts from the start of the system that `boot` names, where it has a name (Linux): the time since 1970
    changes with the clock, which is corrected while processes run, as after a pause of a virtual machine. Without
    `boot` it counts from 1970.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    born_s: float
    boot: str = ""

    @classmethod
    def current(cls, **fields: Any) -> Self:
        """Describe the current process; `fields` are those that a subclass adds."""
        pid, boot = os.getpid(), _boot()
        return cls(host=socket.gethostname(), pid=pid, born_s=_born_s(pid, boot), boot=boot, **fields)

    @property
    def is_local(self) -> bool:
        """True if the process belongs to this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool | None:
        """True if the process still exists; None if it belongs to another host, where this cannot be known."""
        if not self.is_local:
            return None
        if self.boot and self.boot != _boot():
            return False
        try:
            is_same = abs(_born_s(self.pid, self.boot) - self.born_s) <= _TOLERANCE_S
            return bool(is_same and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return False
        except psutil.AccessDenied:
            return True


def _boot() -> str:
    """Return the name of this start of the system; empty where it has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _born_s(pid: int, boot: str) -> float:
    """Return the seconds from the start of the system, or from 1970 without `boot`, to the start of a process."""
    if not boot:
        return float(psutil.Process(pid).create_time())
    # After the name in brackets, which may contain anything, the times are counted in clock ticks (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")


def wait_or_kill(process: subprocess.Popen[Any], limit_s: float) -> None:
    """Wait until a process that is about to end has ended; kill it after `limit_s` seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
        return
    process.kill()
    process.wait()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its child processes, ended or not, and of their ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(times.ru_utime + times.ru_stime for times in used)
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            total += sum(child.cpu_times()[:4])
    return total
