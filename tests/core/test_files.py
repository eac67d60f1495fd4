"""Atomic file writes: every file is whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from gauntlet.core import files
from gauntlet.core.errors import GauntletError, InputError, InputErrors
from gauntlet.core.files import (
    SCRATCH,
    atomic_path,
    canonical_json,
    create_text,
    read_json,
    remove_leftovers,
    scratch,
    write_bytes,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path):
    """An exception during a write leaves the old file unchanged."""
    target = tmp_path / "table"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        _write_half(temporary)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table"]


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    """ENOSPC becomes an error that names the file, and no partial file stays."""
    with pytest.raises(GauntletError, match=r"table: the disk is full; free space"), atomic_path(tmp_path / "table"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_unchanged_content_keeps_the_time_stamp(tmp_path):
    """A file that is written again with the same bytes keeps its modification time."""
    target = tmp_path / "manifest.json"
    write_json(target, {"b": 1, "a": [1.5, None]})
    os.utime(target, (1, 1))
    write_json(target, {"a": [1.5, None], "b": 1})
    assert target.stat().st_mtime == 1
    write_json(target, {"a": [1.5, None], "b": 2})
    assert target.stat().st_mtime > 1


def test_a_new_file_obeys_the_umask(tmp_path):
    """A published file is readable by the group, unlike its temporary file."""
    old = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_canonical_json_has_one_spelling_and_refuses_nan():
    """Canonical JSON does not depend on the order of keys, and NaN is refused."""
    assert canonical_json({"b": 1, "a": "ε"}) == '{"a":"ε","b":1}'
    with pytest.raises(ValueError, match=r"not JSON compliant|nan"):
        canonical_json(float("nan"))


def _write_half(path):
    path.write_text("half")
    raise RuntimeError


@pytest.fixture
def other_disk(monkeypatch):
    """A folder on another file system than the test's, like a compute node's local disk."""
    shared_memory = Path("/dev/shm")
    if (
        not os.access(shared_memory, os.W_OK)
        or shared_memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev
    ):
        reason = "there is no second file system: /dev/shm"
        # CI has one: a skip there would hide that nothing tests this.
        (pytest.fail if os.environ.get("GAUNTLET_TEST_SLURM") else pytest.skip)(reason)
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        monkeypatch.setenv(SCRATCH, folder)
        yield Path(folder)


def test_a_file_is_written_on_the_scratch_disk_and_then_moved_whole(tmp_path, other_disk):
    """The target folder holds an empty file until the copy is complete, and the scratch disk is left empty."""
    target = tmp_path / "table"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == other_disk
        assert not target.exists()
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["table"]
    assert os.listdir(other_disk) == []
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        _write_half(temporary)
    assert target.read_text() == "new"
    assert [*os.listdir(tmp_path), *os.listdir(other_disk)] == ["table"]


def test_a_full_scratch_disk_and_a_full_target_have_different_errors(tmp_path, other_disk, monkeypatch):
    """The error names the full disk, and for the scratch disk the option that turns it off."""
    full = OSError(errno.ENOSPC, "No space left on device")
    full_scratch = pytest.raises(GauntletError, match=rf"{other_disk}: the disk is full; .*scratch: off")
    with full_scratch, atomic_path(tmp_path / "table"):
        raise full
    monkeypatch.setattr(shutil, "copyfile", _raising(full))
    with (
        pytest.raises(GauntletError, match=r"table: the disk is full; free space and run again"),
        atomic_path(tmp_path / "table"),
    ):
        pass
    assert [*os.listdir(tmp_path), *os.listdir(other_disk)] == []


def test_a_corrupt_copy_is_refused(tmp_path, other_disk, monkeypatch):
    """A copy with other bytes than the scratch file does not replace the old file."""
    target = tmp_path / "table"
    target.write_text("old")
    monkeypatch.setattr(shutil, "copyfile", lambda source, copy: copy.write_bytes(source.read_bytes()[:-1]))
    with pytest.raises(GauntletError, match="copy from the scratch disk differs"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert [*os.listdir(tmp_path), *os.listdir(other_disk)] == ["table"]


def test_scratch_files_of_a_killed_writer_are_removed(tmp_path, other_disk):
    """Scratch files of other targets or of live processes are kept."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    gone, alive, another = (
        other_disk / f".{name}.{process}@{host}.x.partial"
        for name, process in (("table", ended.pid), ("table", os.getpid()), ("other", ended.pid))
    )
    for path in (gone, alive, another):
        path.touch()
    remove_leftovers(tmp_path / "table")
    assert sorted(os.listdir(other_disk)) == sorted([alive.name, another.name])


def test_files_of_a_killed_writer_whose_exit_code_nobody_has_read_are_removed(tmp_path):
    """Such a process still has its id, as in a container whose first process adopts others and forgets them."""
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / f".table.{ended.pid}@{socket.gethostname()}.x.partial").touch()
        remove_leftovers(tmp_path / "table")
        assert os.listdir(tmp_path) == []


def test_a_file_is_created_once_and_whole(tmp_path, monkeypatch):
    """The second writer is refused, with hard links and without; permissions are those of other files."""
    for name in ("with", "without"):
        assert create_text(tmp_path / name, "first ä\n")
        assert not create_text(tmp_path / name, "second\n")
        assert (tmp_path / name).read_text(encoding="utf-8") == "first ä\n"
        write_text(tmp_path / "other", "")
        assert (tmp_path / name).stat().st_mode == (tmp_path / "other").stat().st_mode
        monkeypatch.setattr(Path, "hardlink_to", _failing(errno.EPERM))
    monkeypatch.setattr(os, "fsync", _failing(errno.ENOSPC))
    with pytest.raises(GauntletError, match="full: the disk is full; free space and run again"):
        create_text(tmp_path / "full", "third")
    assert sorted(os.listdir(tmp_path)) == ["other", "with", "without"]


def test_the_scratch_disk_is_the_requested_one_or_that_of_the_job(tmp_path, other_disk, monkeypatch):
    """TMPDIR counts in jobs only; a scratch folder that is missing, nearly full or on the same disk is not used."""
    here = str(other_disk)
    found = {
        "off": {SCRATCH: "off", "SLURM_TMPDIR": here},
        "not asked for": {"SLURM_TMPDIR": here},
        "no job": {SCRATCH: "auto", "TMPDIR": here},
        "the same disk": {SCRATCH: str(tmp_path)},
        "missing": {SCRATCH: f"{here}/missing"},
    }
    assert {name: scratch(tmp_path, environment) for name, environment in found.items()} == dict.fromkeys(found)
    for environment in (
        {SCRATCH: "auto", "SLURM_TMPDIR": here},
        {SCRATCH: "auto", "TMPDIR": here, "SLURM_JOB_ID": "1"},
        {SCRATCH: "auto", "TMPDIR": here, "SLURM_JOB_ID": "1", "SLURM_TMPDIR": f"{here}/missing"},
    ):
        assert scratch(tmp_path, environment) == other_disk
    monkeypatch.setenv("DISK", other_disk.name)
    assert scratch(tmp_path, {SCRATCH: f"{other_disk.parent}/$DISK"}) == other_disk
    usage = shutil.disk_usage(here)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000_000))
    assert scratch(tmp_path, {SCRATCH: here}) is None


def _raising(error):
    def function(*arguments):
        raise error

    return function


class Pair(BaseModel):
    """A record of two numbers."""

    model_config = ConfigDict(strict=True)

    first: int
    second: float


@pytest.mark.parametrize("content", ["", "[]", "{", '{"first": 1}', '{"first": "1", "second": 2.0}', "\x00"])
def test_a_damaged_record_is_named_in_one_line(tmp_path, content):
    """A damaged JSON record is reported with its path and the remedy."""
    path = tmp_path / "pair.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_json(path, Pair, kind="pair", missing="make it", remedy="make it again")
    assert str(caught.value) == f"{path}: is not a pair; make it again"


def test_a_record_is_read_and_a_missing_one_is_named(tmp_path):
    """A missing JSON record is reported with its path and the remedy."""
    path = tmp_path / "pair.json"
    with pytest.raises(InputError, match=r"pair\.json: the file is missing; make it"):
        read_json(path, Pair, kind="pair", missing="make it", remedy="make it again")
    write_json(path, {"first": 1, "second": 0.1})
    assert read_json(path, Pair, kind="pair", missing="", remedy="") == Pair(first=1, second=0.1)


def test_a_folder_that_cannot_be_written_to_is_reported_before_the_work(tmp_path):
    """The message names the folder that exists; the superuser may write where others may not."""
    files.require_writable(tmp_path / "new" / "results")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "results").write_text("")
    with pytest.raises(InputError, match=f"^{tmp_path}/results: this is a file, and a folder is needed here"):
        files.require_writable(tmp_path / "results" / "t")
    if os.geteuid() == 0:
        tmp_path.chmod(0o555)
        os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=r"cannot be written to \(Permission denied\)"):
                files.require_writable(tmp_path)
        finally:
            os.seteuid(0)


def test_files_and_links_in_place_of_folders_are_all_named(tmp_path):
    """Folders that exist, links to folders, and what does not exist yet are accepted."""
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    files.require_folders([tmp_path / "folder" / "new" / "er", tmp_path / "link"])
    with pytest.raises(InputErrors) as error:
        files.require_folders([tmp_path / "file" / "a" / "b", tmp_path / "file" / "c", tmp_path / "broken" / "a"])
    assert [(where.where, where.problem) for where in error.value.errors] == [
        (f"{tmp_path}/file", "this is a file, and a folder is needed here"),
        (f"{tmp_path}/broken", "this link leads to no folder"),
    ]


def test_a_full_disk_is_reported_before_the_work(tmp_path, monkeypatch):
    """It is no fault of the configuration."""

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(GauntletError, match="the disk is full; free space") as error:
        files.require_writable(tmp_path)
    assert error.value.exit_code == 1


def _failing(number):
    """Return a system call that fails with an error number."""

    def call(*arguments):
        raise OSError(number, os.strerror(number))

    return call
