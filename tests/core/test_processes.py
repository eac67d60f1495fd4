"""Processes that are about to end, and that do not."""

from __future__ import annotations

import signal
import subprocess

from gauntlet.core.processes import wait_or_kill


def test_a_process_that_does_not_end_is_killed():
    process = subprocess.Popen(["sleep", "600"])
    wait_or_kill(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_ends_is_not_killed():
    process = subprocess.Popen(["true"])
    wait_or_kill(process, 60.0)
    assert process.returncode == 0
