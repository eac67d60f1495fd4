"""Identity of processes, across hosts and reused process ids."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from contextlib import suppress
from typing import Any, Self

import psutil
from pydantic import BaseModel, ConfigDict

_TOLERANCE_S = 2.0


class ProcessIdentity(BaseModel):
    """A process by host, id and start time (seconds since 1970); the last distinguishes a process with a reused id."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    born_s: float

    @classmethod
    def current(cls, **fields: Any) -> Self:
        """Describe the current process; `fields` are those that a subclass adds."""
        return cls(host=socket.gethostname(), pid=os.getpid(), born_s=psutil.Process().create_time(), **fields)

    @property
    def is_local(self) -> bool:
        """True if the process belongs to this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool | None:
        """True if the process still exists; None if it belongs to another host, where this cannot be known."""
        if not self.is_local:
            return None
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.born_s) <= _TOLERANCE_S
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


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
