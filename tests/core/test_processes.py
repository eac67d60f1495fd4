"""Processes that are about to end, and that do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from gauntlet.core.processes import ProcessIdentity, wait_or_kill


def test_a_process_that_does_not_end_is_killed():
    process = subprocess.Popen(["sleep", "600"])
    wait_or_kill(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_ends_is_not_killed():
    process = subprocess.Popen(["true"])
    wait_or_kill(process, 60.0)
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the start of the system has a name on Linux only")
def test_a_process_is_the_same_after_a_correction_of_the_clock(monkeypatch):
    """The system's start, from which its time since 1970 is computed, moves with the clock."""
    identity = ProcessIdentity.current()
    boot_s = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_s + 3600.0)
    assert identity.is_alive is True


@pytest.mark.parametrize("changes", [{"born_s": 1e-3}, {"boot": "another"}, {"pid": 2**22 - 1}])
def test_another_process_of_the_same_id_is_not_it(changes):
    """It has started at another time, or on another start of the system; one that has ended has no time."""
    assert ProcessIdentity.current().model_copy(update=changes).is_alive is False


def test_a_record_without_the_start_of_the_system_is_understood():
    """Those of other systems, and of earlier versions, have the time since 1970."""
    since_1970 = ProcessIdentity.current().model_copy(update={"boot": "", "born_s": psutil.Process().create_time()})
    assert since_1970.is_alive is True
    ended = subprocess.Popen(["true"])
    assert ended.wait() == 0
    assert since_1970.model_copy(update={"pid": ended.pid}).is_alive is False
    assert os.getpid() == since_1970.pid
