"""Digests of values and files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from gauntlet.core.files import canonical_json


def digest_json(value: Any) -> str:
    """Hash a value by its canonical JSON: key order does not matter, values and their types do."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_user_file(path: Path) -> str | None:
    """Hash the content of a file that others may change; None if it cannot be read.

    A file of the same inode, size and times is read once per process.
    """
    try:
        state = path.stat()
        return _digest_unchanged(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _digest_unchanged(path: Path, *_state: int) -> str:
    return digest_file(path)
