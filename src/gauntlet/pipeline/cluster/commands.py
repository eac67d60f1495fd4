"""SLURM commands, run with a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPLACEMENTS = Path(__file__).parent / "bin"
"""Folder of commands that replace SLURM's own while it comes first on PATH."""

INTERPRETER_VARIABLE = "GAUNTLET_PYTHON"
"""Environment variable with the interpreter that runs the replacements."""

TIMEOUT_S = 20.0

_PREFERENCES = ("SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SLURM_TIME_FORMAT")
"""Prefixes of variables by which users choose what the commands list, in which form, and whether they ask."""


def find_command(name: str) -> str | None:
    """Return the path of SLURM's own command, ignoring our replacements; None if it is not installed."""
    folders = [folder for folder in os.get_exec_path() if Path(folder) != REPLACEMENTS]
    return shutil.which(name, path=os.pathsep.join(folders))


def with_replacements() -> dict[str, str]:
    """Return the variables with which processes find our replacements and this interpreter's commands first."""
    folders = [str(REPLACEMENTS), str(Path(sys.executable).parent), *os.get_exec_path()]
    return {"PATH": os.pathsep.join(dict.fromkeys(folders)), INTERPRETER_VARIABLE: sys.executable}


def environment() -> dict[str, str]:
    """Return the environment for SLURM's commands: this process's without a user's preferences."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFERENCES)}


def run_command(name: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run a SLURM command; return None if it is not installed or does not answer in time."""
    command = find_command(name)
    if command is None:
        return None
    try:
        return subprocess.run(
            [command, *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def query_rows(name: str, *arguments: str) -> list[list[str]] | None:
    """Run a SLURM command that prints columns separated by ``|`` and return its rows; None if it failed."""
    result = run_command(name, *arguments)
    if result is None or result.returncode:
        return None
    return [line.strip().split("|") for line in result.stdout.splitlines() if line.strip()]
