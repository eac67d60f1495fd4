"""Digests of values and files."""

from __future__ import annotations

import hashlib
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
