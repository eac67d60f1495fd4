"""Files are whole or absent."""

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

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.files import (
    SCRATCH,
    atomic_path,
    canonical_json,
    read_json,
    remove_leftovers,
    scratch,
    write_bytes,
    write_json,
)


def test_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path):
    """An exception while writing changes nothing a reader sees."""
    target = tmp_path / "table"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        _write_half(temporary)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table"]


def test_full_disk_is_said_in_one_line(tmp_path):
    """ENOSPC becomes an error that names the file, and leaves nothing behind."""
    with pytest.raises(GauntletError, match=r"table: the disk is full; free space"), atomic_path(tmp_path / "table"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_unchanged_content_keeps_the_time_stamp(tmp_path):
    """Writing the same bytes again does not touch the file, so nothing downstream looks newer."""
    target = tmp_path / "manifest.json"
    write_json(target, {"b": 1, "a": [1.5, None]})
    os.utime(target, (1, 1))
    write_json(target, {"a": [1.5, None], "b": 1})
    assert target.stat().st_mtime == 1
    write_json(target, {"a": [1.5, None], "b": 2})
    assert target.stat().st_mtime > 1


def test_new_file_obeys_the_umask(tmp_path):
    """A published file is readable by the group, unlike the temporary one it came from."""
    old = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_canonical_json_has_one_spelling_and_refuses_nan():
    """Key order does not matter; a NaN, which equals nothing, is refused."""
    assert canonical_json({"b": 1, "a": "ε"}) == '{"a":"ε","b":1}'
    with pytest.raises(ValueError, match=r"not JSON compliant|nan"):
        canonical_json(float("nan"))


def _write_half(path):
    path.write_text("half")
    raise RuntimeError


@pytest.fixture
def other_disk(monkeypatch):
    """A folder on another file system than the test's, as a node's own disk is beside the network's."""
    shared_memory = Path("/dev/shm")
    if (
        not os.access(shared_memory, os.W_OK)
        or shared_memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev
    ):
        lacking = "there is no second file system: /dev/shm"
        # CI has one: a skip there would hide that nothing tests this.
        (pytest.fail if os.environ.get("GAUNTLET_TEST_SLURM") else pytest.skip)(lacking)
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        monkeypatch.setenv(SCRATCH, folder)
        yield Path(folder)


def test_a_file_is_written_on_the_scratch_disk_and_then_moved_whole(tmp_path, other_disk):
    """Beside the target there is nothing but an empty name until it is all there; on the scratch disk nothing stays."""
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


def test_a_full_scratch_disk_is_told_from_a_full_target(tmp_path, other_disk, monkeypatch):
    """The error names the disk that is full, and how to do without it."""
    full = OSError(errno.ENOSPC, "No space left on device")
    told = pytest.raises(GauntletError, match=rf"{other_disk}: the disk is full; .*scratch: off")
    with told, atomic_path(tmp_path / "table"):
        raise full
    monkeypatch.setattr(shutil, "copyfile", _raising(full))
    with (
        pytest.raises(GauntletError, match=r"table: the disk is full; free space and run again"),
        atomic_path(tmp_path / "table"),
    ):
        pass
    assert [*os.listdir(tmp_path), *os.listdir(other_disk)] == []


def test_a_copy_that_is_not_what_was_written_is_refused(tmp_path, other_disk, monkeypatch):
    """The file that was there stays, and nothing half is seen."""
    target = tmp_path / "table"
    target.write_text("old")
    monkeypatch.setattr(shutil, "copyfile", lambda source, copy: copy.write_bytes(source.read_bytes()[:-1]))
    with pytest.raises(GauntletError, match="not what was written"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert [*os.listdir(tmp_path), *os.listdir(other_disk)] == ["table"]


def test_what_a_killed_writer_left_on_the_scratch_disk_is_removed(tmp_path, other_disk):
    """Only that of this file, and of processes that are no more."""
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


def test_the_scratch_disk_is_what_was_asked_for_or_what_a_job_has(tmp_path, other_disk, monkeypatch):
    """TMPDIR counts in jobs alone; what is no disk of its own, is missing, or nearly full, is done without."""
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
    """With the remedy for damaged files."""
    path = tmp_path / "pair.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_json(path, Pair, kind="pair", missing="make it", remedy="make it again")
    assert str(caught.value) == f"{path}: is no pair; make it again"


def test_a_record_is_read_and_a_missing_one_is_named(tmp_path):
    """With the remedy for missing files."""
    path = tmp_path / "pair.json"
    with pytest.raises(InputError, match=r"pair\.json: the file is missing; make it"):
        read_json(path, Pair, kind="pair", missing="make it", remedy="make it again")
    write_json(path, {"first": 1, "second": 0.1})
    assert read_json(path, Pair, kind="pair", missing="", remedy="") == Pair(first=1, second=0.1)
