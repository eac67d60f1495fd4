"""Walks over folders that leave out hidden entries and follow links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gauntlet.core.errors import InputError

_SYSTEM = frozenset(
    (
        *("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    )
)
"""Names, in lower case, of what operating systems and file servers leave in folders."""


def is_hidden(name: str) -> bool:
    """Return whether a folder or file is hidden, or belongs to the operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM


def expand(root: str) -> Path:
    """Return the path of a setting `root`, with ``~`` replaced by the home folder."""
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise InputError("there is no such home folder", where=root, remedy="set `root:` to the whole path") from error


def children(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the visible folders and files in a folder, links included, sorted by name.

    Raises InputError for a link to nothing and for a folder that cannot be read.
    """
    folders: list[Path] = []
    files: list[Path] = []
    try:
        for entry in sorted(folder.iterdir()):
            if is_hidden(entry.name):
                continue
            if entry.is_symlink() and not entry.exists():
                raise InputError("is a link to nothing", where=str(entry), remedy="remove or repair the link")
            (folders if entry.is_dir() else files).append(entry)
    except OSError as error:
        remedy = "make the folder readable"
        raise InputError(f"cannot be read ({error.strerror})", where=str(folder), remedy=remedy) from error
    return folders, files


def walk(folder: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Yield the visible folders and files in a folder, then in each folder below; links to folders are followed.

    Raises InputError for a link to a folder that contains it.
    """
    yield from _walk(folder, ())


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the visible files in a folder and below, as `walk` does."""
    return (file for _, files in walk(folder) for file in files)


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[list[Path], list[Path]]]:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError("is a link to a folder that contains it", where=str(folder), remedy="remove the link")
    folders, files = children(folder)
    yield folders, files
    for child in folders:
        yield from _walk(child, (*above, real))
