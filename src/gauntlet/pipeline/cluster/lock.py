"""One controller at a time on one results folder: a lock that says who holds it, and that a dead holder gives up."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from getpass import getuser
from pathlib import Path

import psutil

from gauntlet.core.errors import GauntletError
from gauntlet.core.files import write_json
from gauntlet.core.provenance.run_metadata import command_line
from gauntlet.pipeline.cluster.commands import rows

NAME = ".lock"

JOB_VARIABLE = "GAUNTLET_CONTROLLER_JOB"
"""Names the SLURM job that a process is a child of; nothing of a job outlives it."""

_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; `born_s` is when it started (seconds since 1970), so that a reused id is told.

    `job` is the SLURM job of a controller, which may have been started anew on another machine.
    """

    host: str
    pid: int
    born_s: float
    user: str
    started: str
    command: str
    job: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, since {self.started}: {self.command}"

    @property
    def is_here(self) -> bool:
        """Tell whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_dead(self) -> bool:
        """Tell whether it is known to be gone; of another machine's process only its SLURM job tells."""
        if not self.is_here:
            return self.job != "" and (self.job == os.environ.get(JOB_VARIABLE) or _is_over(self.job, self.user))
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.born_s) <= _TOLERANCE_S
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def this_process() -> Holder:
    """Describe the process that is running."""
    born_s = psutil.Process().create_time()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Holder(
        socket.gethostname(), os.getpid(), born_s, _user(), now, command_line(), os.environ.get(JOB_VARIABLE, "")
    )


def holder(folder: Path) -> Holder | None:
    """Say who holds the lock of a folder, dead or alive; None where nobody does.

    Raises GauntletError when the lock cannot be read.
    """
    path = folder / NAME
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        remedy = "delete it if no other run uses this folder"
        raise GauntletError("the lock cannot be read", where=str(path), remedy=remedy) from error


def acquire(folder: Path) -> Holder:
    """Take the lock of a results folder until this process ends, or `release`.

    A lock whose process is dead, on this machine, is taken over. Raises GauntletError that names the holder otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, mine = folder / NAME, this_process()
    with _alone(folder):
        other = holder(folder)
        if other and other.is_dead:
            path.unlink(missing_ok=True)
        if not _create(path, mine):
            other = holder(folder)
            if other is None or (other.pid, other.host) != (mine.pid, mine.host):
                raise _refusal(path, other)
    atexit.register(release, folder, mine)
    return mine


def release(folder: Path, mine: Holder) -> None:
    """Give a lock back; one that is no longer `mine`, or was inherited by a child process, is left alone."""
    if os.getpid() != mine.pid:
        return
    try:
        with _alone(folder):
            if holder(folder) == mine:
                (folder / NAME).unlink(missing_ok=True)
    except (OSError, GauntletError):
        # At exit nothing better can be done: the next run on this machine finds the holder dead.
        return


def _refusal(path: Path, other: Holder | None) -> GauntletError:
    if other is None:
        return GauntletError("another run took the lock this moment", where=str(path), remedy="try again")
    remedy = "wait for it, or stop it"
    if not other.is_here:
        remedy += f"; if it is gone for certain (look on {other.host}), delete this file"
    return GauntletError(f"another run works on this folder ({other})", where=str(path), remedy=remedy)


def _create(path: Path, mine: Holder) -> bool:
    """Make the lock file with its content at once, or leave the one that is there; tells whether it was made.

    A hard link is atomic across machines, too, where the file systems of clusters let several of them write.
    """
    draft = path.with_name(f"{NAME}.{mine.host}.{mine.pid}")
    write_json(draft, asdict(mine))
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:
        # No hard links here: a reader may then find the lock empty for a moment, and refuses.
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(draft.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep this machine's other processes out while a dead holder's lock is exchanged for one's own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems lock no folders; what is left is a race of microseconds after a crash.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_over(job: str, user: str) -> bool:
    found = rows("squeue", "--noheader", f"--user={user}", "--format=%i")
    return found is not None and [job] not in found


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())
