"""Record of the raw files that a stored data set was read from, to notice that they changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_json
from gauntlet.learning.data.visible import files_below

_NAME = "raw_files.json"


def raw_files_digest(root: Path) -> str | None:
    """Hash the names, sizes and times of change of the visible files in a folder; None if there are none to read."""
    digest = hashlib.sha256()
    try:
        paths = sorted(files_below(root))
        for path in paths:
            state = path.stat()
            entry = f"{path.relative_to(root)}\0{state.st_size}\0{state.st_mtime_ns}\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    except (InputError, OSError, ValueError):
        return None
    return f"sha256:{digest.hexdigest()}" if paths else None


def record_raw_files(folder: Path, digest: str | None) -> None:
    """Write the digest of the raw files next to the data set stored in `folder`; remove the record if it is None."""
    if digest is None:
        (folder / _NAME).unlink(missing_ok=True)
    else:
        write_json(folder / _NAME, {"digest": digest})


def raw_files_changed(folder: Path, root: Path) -> bool:
    """Return whether raw files differ from those recorded; False if there is no record, or no folder any more."""
    try:
        recorded = json.loads((folder / _NAME).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return raw_files_digest(root) not in (None, recorded)
