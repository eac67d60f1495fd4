"""SLURM's own commands, with limits on how long they may take."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

STAND_INS = Path(__file__).parent / "bin"
"""Commands that are found instead of SLURM's where this folder stands first on PATH."""

LONGEST_S = 20.0


def real(name: str) -> str | None:
    """Find a command of SLURM's, past our stand-ins; None where it is not installed."""
    places = [place for place in os.get_exec_path() if Path(place) != STAND_INS]
    return shutil.which(name, path=os.pathsep.join(places))


def ask(name: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command of SLURM's; None where it is not installed or does not answer in time."""
    command = real(name)
    if command is None:
        return None
    try:
        return subprocess.run(
            [command, *arguments], capture_output=True, text=True, errors="replace", timeout=LONGEST_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def rows(name: str, *arguments: str) -> list[list[str]] | None:
    """Run a command that prints columns parted by ``|``; None where it failed."""
    done = ask(name, *arguments)
    if done is None or done.returncode:
        return None
    return [line.strip().split("|") for line in done.stdout.splitlines() if line.strip()]
