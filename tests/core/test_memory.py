"""Freed memory that the process keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
from gauntlet.core.memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

kept = sys.argv[1] == "keep" and keep_freed_memory()
start = resident()
blocks = [bytearray(4 * 2**20) for _ in range(16)]
used = resident() - start
del blocks
print(kept, (resident() - start) / used)
"""


def ran(how: str, **environment: str) -> tuple[str, float]:
    """Return what the function returned, and the share of 64 MiB that stays with the process once freed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    kept, share = done.stdout.split()
    return kept, float(share)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_stays_for_the_next_allocation() -> None:
    """By default glibc returns it at once, and every page costs a fault on its next use."""
    kept, share = ran("keep")
    assert kept == "True"
    assert share > 0.9
    assert ran("leave")[1] < 0.5


def test_settings_of_the_environment_are_left_alone() -> None:
    """The user's own tuning counts."""
    assert ran("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
