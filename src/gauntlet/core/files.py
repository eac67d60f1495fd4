"""Atomic files: a reader sees the whole old file or the whole new one, never a part."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gauntlet.core.errors import GauntletError, InputError

if TYPE_CHECKING:  # some commands read files in a process of their own, and must start fast
    from pydantic import BaseModel

PARTIAL_SUFFIX = ".partial"

SCRATCH = "GAUNTLET_SCRATCH"
"""The variable that holds `execution: scratch:` of the configuration, for this process and those it starts."""

_LEAST_FREE = 1 << 30

Model = TypeVar("Model", bound="BaseModel")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success sync it and rename it to `path`, on failure remove it.

    The temporary name is unique to the call, so two processes that make the same file cannot tear it:
    the last rename wins, and both were whole. Where there is a scratch disk, the name given stands there, and what was
    written is copied to one beside `path`, synced and compared before it is renamed.

    Raises GauntletError when a disk is full or the copy is not what was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, path.parent)
    place = scratch(path.parent)
    drafted, filling = temporary, path
    try:
        if place:
            filling = place
            drafted = _temporary(path, place)
        yield drafted
        filling = path
        if place:
            shutil.copyfile(drafted, temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if place and not filecmp.cmp(drafted, temporary, shallow=False):
            raise GauntletError("the copy is not what was written", where=str(path), remedy="run again")
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free space and run again" if filling == path else "free space, or set `execution: {scratch: off}`"
            raise GauntletError("the disk is full", where=str(filling), remedy=remedy) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        if drafted != temporary:
            drafted.unlink(missing_ok=True)


def scratch(folder: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Find a disk of this node's own on which a file for `folder` is written first; None where there is none.

    It must be another file system than that of `folder`, be writable, and have a gigabyte left.
    """
    asked = environment.get(SCRATCH, "off")
    places = [os.path.expandvars(asked)]
    if asked in ("auto", "off"):
        # TMPDIR is a node's own disk in jobs; elsewhere it may be anything.
        own = environment.get("TMPDIR", "") if "SLURM_JOB_ID" in environment else ""
        places = [environment.get("SLURM_TMPDIR", ""), own] if asked == "auto" else []
    for place in filter(None, places):
        with suppress(OSError):
            elsewhere = Path(place).stat().st_dev != folder.stat().st_dev
            if elsewhere and os.access(place, os.W_OK) and shutil.disk_usage(place).free >= _LEAST_FREE:
                return Path(place)
    return None


def _temporary(path: Path, folder: Path) -> Path:
    prefix = f".{path.name}.{os.getpid()}@{socket.gethostname()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=PARTIAL_SUFFIX, dir=folder)
    os.close(handle)
    return Path(name)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers are no more: processes of this host that have ended."""
    for folder in filter(None, (path.parent, scratch(path.parent))):
        for leftover in folder.glob(f".{path.name}.*{PARTIAL_SUFFIX}"):
            writer = re.search(rf"\.(\d+)@(.+)\.[^.]+{re.escape(PARTIAL_SUFFIX)}$", leftover.name)
            if writer and writer[2] == socket.gethostname() and not _is_alive(int(writer[1])):
                # On a scratch disk it may be another user's.
                with suppress(PermissionError):
                    leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; a file that already holds these bytes is left untouched."""
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 `content` to `path` atomically; a file that already holds it is left untouched."""
    write_bytes(path, content.encode())


def canonical_json(value: Any) -> str:
    """Render `value` as the one JSON text it has: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, model: type[Model], *, kind: str, missing: str, remedy: str) -> Model:
    """Read a JSON file as a pydantic model.

    Raises InputError that names the file, with the remedy `missing` if it does not exist, and with `remedy` if it
    is not a `kind`.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy=missing) from error
    except (OSError, ValueError) as error:
        raise InputError(f"is not a {kind}", where=str(path), remedy=remedy) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the file system lets a folder be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
