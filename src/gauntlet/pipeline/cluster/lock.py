"""Lock of a results folder: one controller at a time, named in the lock file; the lock of a dead holder is replaced."""

from __future__ import annotations

import atexit
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import create_text, remove_leftovers
from gauntlet.core.processes import ProcessIdentity
from gauntlet.core.provenance.run_metadata import command_line
from gauntlet.pipeline.cluster.commands import query_rows

NAME = ".lock"

JOB_VARIABLE = "GAUNTLET_CONTROLLER_JOB"
"""Holds the id of the controller's SLURM job in its child processes, which end with the job."""


class Holder(ProcessIdentity):
    """The process that holds a lock.

    `job` is the SLURM job of a controller, which SLURM may have restarted on another host.
    """

    user: str
    started: str
    command: str
    job: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, since {self.started}: {self.command}"

    @property
    def is_dead(self) -> bool:
        """True if the process is known to have ended; on another host only its SLURM job can show that."""
        if (is_alive := self.is_alive) is not None:
            return not is_alive
        return self.job != "" and (self.job == os.environ.get(JOB_VARIABLE) or _has_left_queue(self.job, self.user))


def current_holder() -> Holder:
    """Describe the current process as the holder of a lock."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    job = os.environ.get(JOB_VARIABLE, "")
    return Holder.current(user=_user(), started=started, command=command_line(), job=job)


def holder(folder: Path) -> Holder | None:
    """Return the holder of a folder's lock, dead or alive; None without a lock.

    Raises GauntletError when the lock file cannot be read.
    """
    path = folder / NAME
    try:
        return Holder.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        remedy = "delete it if no other run uses this folder"
        raise GauntletError("the lock cannot be read", where=str(path), remedy=remedy) from error


def acquire(folder: Path) -> Holder:
    """Acquire the lock of a results folder until this process ends, or `release`.

    The lock of a process known to be dead is replaced. Raises GauntletError that names the holder otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, current = folder / NAME, current_holder()
    with _exclusive(folder):
        previous = holder(folder)
        if previous and previous.is_dead:
            path.unlink(missing_ok=True)
        remove_leftovers(path)
        if not create_text(path, f"{current.model_dump_json(indent=1)}\n"):
            other = holder(folder)
            if other is None or (other.pid, other.host) != (current.pid, current.host):
                raise _refusal(path, other)
    atexit.register(release, folder, current)
    return current


def release(folder: Path, held: Holder) -> None:
    """Release a lock, unless another process holds it now or this process is a fork of the holder."""
    if os.getpid() != held.pid:
        return
    try:
        with _exclusive(folder):
            if holder(folder) == held:
                (folder / NAME).unlink(missing_ok=True)
    except (OSError, GauntletError):
        # At exit nothing more can be done: the next run on this host finds the holder dead.
        return


def _refusal(path: Path, other: Holder | None) -> GauntletError:
    if other is None:
        return GauntletError("another run acquired the lock at this moment", where=str(path), remedy="try again")
    remedy = "wait for it, or stop it"
    if not other.is_local:
        remedy += f"; if it is certainly gone (check on {other.host}), delete this file"
    return GauntletError(f"another run uses this folder ({other})", where=str(path), remedy=remedy)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Exclude other processes of this host while a dead holder's lock is replaced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot lock folders; that leaves a race of microseconds after a crash.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _has_left_queue(job: str, user: str) -> bool:
    """Return whether a job of this user's has ended; SLURM may hide the jobs of other users (PrivateData)."""
    if user != _user():
        return False
    rows = query_rows("squeue", "--noheader", "--all", f"--user={user}", "--format=%i")
    return rows is not None and [job] not in rows


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())
