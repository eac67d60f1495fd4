"""Last lines of log files."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

_FAILURE = re.compile(r"gauntlet: |[\w.]+(Error|Exception)\b")
_TAIL_BYTES = 1 << 12


def is_failure(line: str) -> bool:
    """Return whether the last line of a log is an error message of `gauntlet` or the end of a traceback."""
    return _FAILURE.match(line) is not None


def last_line(path: Path) -> str:
    """Read the last non-empty line of a log; empty if there is none."""
    return next(iter(last_lines(path, 1)), "").strip()


def last_lines(path: Path, count: int) -> list[str]:
    """Read the last non-empty lines of a log, up to `count` of them."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES * count))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    # A progress bar redraws its line with carriage returns: only the last drawing counts.
    drawn = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in reversed(lines))
    return list(islice((line for line in drawn if line), count))[::-1]
