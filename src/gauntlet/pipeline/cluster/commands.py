"""SLURM commands, run with a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

REPLACEMENTS = Path(__file__).parent / "bin"
"""Folder of commands that replace SLURM's own while it comes first on PATH."""

TIMEOUT_S = 20.0


def find_command(name: str) -> str | None:
    """Return the path of SLURM's own command, ignoring our replacements; None if it is not installed."""
    folders = [folder for folder in os.get_exec_path() if Path(folder) != REPLACEMENTS]
    return shutil.which(name, path=os.pathsep.join(folders))


def run_command(name: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run a SLURM command; return None if it is not installed or does not answer in time."""
    command = find_command(name)
    if command is None:
        return None
    try:
        return subprocess.run(
            [command, *arguments], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def query_rows(name: str, *arguments: str) -> list[list[str]] | None:
    """Run a SLURM command that prints columns separated by ``|`` and return its rows; None if it failed."""
    result = run_command(name, *arguments)
    if result is None or result.returncode:
        return None
    return [line.strip().split("|") for line in result.stdout.splitlines() if line.strip()]
