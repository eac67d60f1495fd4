"""Run metadata: versions, machine and durations, recorded in the files of a run; they decide no result."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from pydantic import TypeAdapter

from gauntlet.core.files import canonical_json
from gauntlet.core.provenance.environment import environment, environment_digest, versions
from gauntlet.core.provenance.recipes import ENVIRONMENT_NAME, PACKAGES_NAME, environment_mark


class Stopwatch:
    """The wall time of the work that makes a file."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def add(self, seconds: float) -> None:
        """Count work of earlier attempts, or of other jobs, that is part of the file."""
        self._start_s -= seconds

    def run_metadata(self, **more: str) -> dict[str, str]:
        """Return seconds, peak memory, versions, commit and the entries that the stage adds, as metadata of a file."""
        entries = {
            "seconds": f"{time.monotonic() - self._start_s:.3f}",
            "peak_memory_bytes": str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": ", ".join(f"{name} {installed}" for name, installed in versions().items()),
            ENVIRONMENT_NAME: environment_mark(environment_digest()),
            PACKAGES_NAME: canonical_json(dict(environment())),
            **commit(),
            **more,
        }
        return {f"gauntlet.{key}": value for key, value in entries.items()}


COMMIT_FILE = "commit.json"
"""The file in a frozen copy of the package that holds what `commit` returned of the original."""


def commit() -> dict[str, str]:
    """Return the commit of the checkout that the code is from, and whether files differ from it, else ``unknown``."""
    folder = Path(__file__).parent
    try:
        return TypeAdapter(dict[str, str]).validate_json((folder.parents[1] / COMMIT_FILE).read_bytes())
    except FileNotFoundError:
        pass
    try:
        # An installed package may be in a folder of another repository, whose commit says nothing about it.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        head = _git(folder, "rev-parse", "HEAD")
        return {
            "commit": head,
            "dirty": str(bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": "unknown"}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return finished.stdout.strip()


def command_line() -> str:
    """Return the running command with its arguments; of ``python -m NAME``, which runs a file of the package, NAME."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return " ".join([name, *sys.argv[1:]])
