"""The lock of a results folder: one controller at a time, takeover, release."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.cluster import lock

HOLD = (
    "import sys; from pathlib import Path; from gauntlet.pipeline.cluster import lock\n"
    "lock.acquire(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def start_holder(folder):
    """Start a process that takes the lock, if it can, and keeps it until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **streams)


def hold(folder):
    """Start a process that takes the lock, and return it when it has."""
    process = start_holder(folder)
    assert process.stdout.readline() == b"held\n"
    return process


def write_lock(folder, **changes):
    """Write a lock that differs from this process."""
    lying = lock.current_holder().model_copy(update=changes)
    (folder / lock.NAME).write_text(json.dumps(lying.model_dump()))
    return lying


def test_a_live_holder_is_named_and_a_dead_one_replaced(tmp_path):
    """A lock is refused with its holder's details until that process is dead."""
    process = hold(tmp_path)
    with pytest.raises(GauntletError, match=rf"process {process.pid} of .* on .*; wait for it, or stop it") as refused:
        lock.acquire(tmp_path)
    assert refused.value.exit_code == 1
    process.kill()
    process.communicate()
    mine = lock.acquire(tmp_path)
    assert lock.holder(tmp_path) == mine
    lock.release(tmp_path, mine)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_released_at_the_end(tmp_path):
    """A process that ends normally removes its lock."""
    hold(tmp_path).communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_is_no_holder(tmp_path):
    """Another start time distinguishes a reused process id."""
    parent = psutil.Process(os.getppid())
    write_lock(tmp_path, pid=parent.pid, born_s=parent.create_time() - 1000, boot="")
    lock.release(tmp_path, lock.acquire(tmp_path))
    write_lock(tmp_path, pid=parent.pid, born_s=parent.create_time(), boot="")
    with pytest.raises(GauntletError, match="another run"):
        lock.acquire(tmp_path)


def test_what_a_killed_process_left_while_it_took_the_lock_is_removed(tmp_path):
    """The next holder removes the file that was to become the lock."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".{lock.NAME}.{ended.pid}@{socket.gethostname()}.x.partial").touch()
    lock.release(tmp_path, lock.acquire(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_host_is_respected(tmp_path):
    """The message explains how to remove it if its holder is dead."""
    write_lock(tmp_path, host="node17", pid=2**22 - 1)
    with pytest.raises(GauntletError, match=r"check on node17\), delete this file"):
        lock.acquire(tmp_path)


def test_a_damaged_lock_is_refused(tmp_path):
    """An unreadable lock counts as held."""
    (tmp_path / lock.NAME).write_text("{")
    with pytest.raises(GauntletError, match="cannot be read; delete it"):
        lock.acquire(tmp_path)


def test_one_of_many_processes_takes_the_lock(tmp_path):
    """Processes that start at once over a dead holder's lock do not share it."""
    write_lock(tmp_path, pid=2**22 - 1)
    racers = [start_holder(tmp_path) for _ in range(4)]
    said = [racer.stdout.readline() for racer in racers]
    assert sorted(said) == [b"", b"", b"", b"held\n"]
    for racer in racers:
        racer.communicate()


def test_release_keeps_another_holders_lock(tmp_path):
    """A lock that another process took over is not removed."""
    mine = lock.acquire(tmp_path)
    other = write_lock(tmp_path, host="node17")
    lock.release(tmp_path, mine)
    assert lock.holder(tmp_path) == other
