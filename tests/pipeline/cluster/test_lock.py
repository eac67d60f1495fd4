"""One controller on one results folder: refused, taken over, given back."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.cluster import lock

HOLD = (
    "import sys, time; from pathlib import Path; from gauntlet.pipeline.cluster import lock\n"
    "lock.acquire(Path(sys.argv[1])); print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


def hold(folder, seconds=60.0):
    """Start a process that takes the lock and keeps it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def forge(folder, **changes):
    """Write a lock that says something else than the truth about this process."""
    lying = lock.current_holder().model_copy(update=changes)
    (folder / lock.NAME).write_text(json.dumps(lying.model_dump()))
    return lying


def test_a_living_holder_is_named_and_a_killed_one_succeeded(tmp_path):
    """Another process's lock is refused with all that is known of it, until that process is dead."""
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


def test_the_lock_is_given_back_at_the_end(tmp_path):
    """A process that ends by itself leaves nothing."""
    hold(tmp_path, 0.0).communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_is_no_holder(tmp_path):
    """The same number with another start time is another process."""
    parent = psutil.Process(os.getppid())
    forge(tmp_path, pid=parent.pid, born_s=parent.create_time() - 1000)
    lock.release(tmp_path, lock.acquire(tmp_path))
    forge(tmp_path, pid=parent.pid, born_s=parent.create_time())
    with pytest.raises(GauntletError, match="another run"):
        lock.acquire(tmp_path)


def test_of_another_machine_nothing_is_assumed(tmp_path):
    """A lock from elsewhere stands, and the message says what to do if it is certain that nobody is there."""
    forge(tmp_path, host="node17", pid=2**22 - 1)
    with pytest.raises(GauntletError, match=r"check on node17\), delete this file"):
        lock.acquire(tmp_path)


def test_a_damaged_lock_is_told(tmp_path):
    """What cannot be read is not taken for nothing."""
    (tmp_path / lock.NAME).write_text("{")
    with pytest.raises(GauntletError, match="cannot be read; delete it"):
        lock.acquire(tmp_path)


def test_of_many_only_one_wins(tmp_path):
    """Processes that come at once, over a dead holder's lock, do not both take it."""
    forge(tmp_path, pid=2**22 - 1)
    command = [sys.executable, "-c", HOLD, str(tmp_path), "3"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(4)]
    said = [racer.communicate()[0] for racer in racers]
    assert sorted(said) == [b"", b"", b"", b"held\n"]


def test_a_lock_that_is_no_longer_mine_is_left_alone(tmp_path):
    """Giving back looks at who holds it."""
    mine = lock.acquire(tmp_path)
    other = forge(tmp_path, host="node17")
    lock.release(tmp_path, mine)
    assert lock.holder(tmp_path) == other
