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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gauntlet.core.errors import GauntletError, InputError, InputErrors

if TYPE_CHECKING:  # some commands read files in a process of their own, and must start fast
    from pydantic import BaseModel

PARTIAL_SUFFIX = ".partial"

SCRATCH = "GAUNTLET_SCRATCH"
"""Environment variable with `execution: scratch:` of the configuration, for this process and those it starts."""

_MIN_FREE_BYTES = 1 << 30
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

Model = TypeVar("Model", bound="BaseModel")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success sync the file and rename it to `path`, on failure remove it.

    The temporary name is unique to the call, so two processes that write the same file cannot tear it: the last rename
    wins, and both files were whole. With a scratch disk, the yielded path is there; the file is then copied to the
    folder of `path`, synced and compared before it is renamed.

    Raises GauntletError when a disk is full or the copy differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, path.parent)
    scratch_folder = scratch(path.parent)
    draft, target = temporary, path
    try:
        if scratch_folder:
            target = scratch_folder
            draft = _temporary(path, scratch_folder)
        yield draft
        target = path
        if scratch_folder:
            shutil.copyfile(draft, temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        if scratch_folder and not filecmp.cmp(draft, temporary, shallow=False):
            raise GauntletError("the copy from the scratch disk differs", where=str(path), remedy="run again")
        temporary.chmod(_mode())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _DISK_FULL:
            remedy = "free space and run again" if target == path else "free space, or set `execution: {scratch: off}`"
            raise GauntletError("the disk is full", where=str(target), remedy=remedy) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        if draft != temporary:
            draft.unlink(missing_ok=True)


def scratch(folder: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Find a folder on a node's local disk in which a file for `folder` is written first; None if there is none.

    It must be another file system than that of `folder`, be writable, and have a gigabyte left.
    """
    setting = environment.get(SCRATCH, "off")
    candidates = [os.path.expandvars(setting)]
    if setting in ("auto", "off"):
        # TMPDIR is a node's local disk in jobs; elsewhere it may be anything.
        job_folder = environment.get("TMPDIR", "") if "SLURM_JOB_ID" in environment else ""
        candidates = [environment.get("SLURM_TMPDIR", ""), job_folder] if setting == "auto" else []
    for candidate in filter(None, candidates):
        with suppress(OSError):
            is_other_disk = Path(candidate).stat().st_dev != folder.stat().st_dev
            if is_other_disk and os.access(candidate, os.W_OK) and shutil.disk_usage(candidate).free >= _MIN_FREE_BYTES:
                return Path(candidate)
    return None


def require_writable(folder: Path) -> None:
    """Check that files can be made in a folder, or in the nearest one above it that exists, with a temporary one.

    Raises InputError if the user may not write there or it is no folder, GauntletError if the disk is full.
    """
    require_folders([folder])
    # A folder that may not be entered is one that is not there.
    existing = next((parent for parent in (folder, *folder.parents) if os.path.exists(parent)), Path())  # noqa: PTH110
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise GauntletError("the disk is full", where=str(existing), remedy="free space and run again") from error
        problem = f"this folder cannot be written to ({error.strerror})"
        remedy = "ask its owner for permission, or work in a folder of your own"
        raise InputError(problem, where=str(existing.absolute()), remedy=remedy) from error


def require_folders(folders: Iterable[Path]) -> None:
    """Check that folders, and those above them, are folders if they exist. Raises InputErrors that name the others."""
    every = dict.fromkeys(path for folder in folders for path in (*reversed(folder.parents), folder))
    errors = [
        InputError(
            "this link leads to no folder" if path.is_symlink() else "this is a file, and a folder is needed here",
            where=str(path.absolute()),
            remedy="rename it, or work in another folder",
        )
        for path in every
        if os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - also where it may not be entered
    ]
    if errors:
        raise InputErrors(errors)


def _temporary(path: Path, folder: Path) -> Path:
    prefix = f".{path.name}.{os.getpid()}@{socket.gethostname()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=PARTIAL_SUFFIX, dir=folder)
    os.close(handle)
    return Path(name)


def create_text(path: Path, content: str) -> bool:
    """Create a file with UTF-8 `content` in one step; return False, and leave it untouched, if there is one already.

    A hard link is atomic across hosts too, where a cluster's file system lets several of them write.
    """
    temporary = _temporary(path, path.parent)
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError:
            # No hard links on this file system: a reader may find the file empty for a moment.
            with path.open("x", encoding="utf-8") as stream:
                stream.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise GauntletError("the disk is full", where=str(path), remedy="free space and run again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers were processes of this host that have ended."""
    for folder in filter(None, (path.parent, scratch(path.parent))):
        for leftover in folder.glob(f".{path.name}.*{PARTIAL_SUFFIX}"):
            writer = re.search(rf"\.(\d+)@(.+)\.[^.]+{re.escape(PARTIAL_SUFFIX)}$", leftover.name)
            if writer and writer[2] == socket.gethostname() and not _is_alive(int(writer[1])):
                # On a scratch disk it may belong to another user.
                with suppress(PermissionError):
                    leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Return whether a process of this host runs. One that was killed keeps its id until its parent has noticed.

    Orphans are adopted by the system's first process, which in a container may notice after seconds, or never.
    """
    with suppress(OSError):  # only Linux has this file, and only while the process has its id
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return state not in (b"Z", b"X")
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def modified_s(path: Path) -> float:
    """Return the time at which a file was last changed, in seconds since 1970; 0 if it is missing."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


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
    """Return `value` as JSON in its only canonical form: sorted keys, no spaces, no NaN."""
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


def _mode() -> int:
    """Return the permissions of a new file, which a temporary one has not."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, if the file system can sync a folder."""
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
