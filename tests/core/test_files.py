"""Files are whole or absent."""

from __future__ import annotations

import errno
import os

import pytest

from gauntlet.errors import GauntletError
from gauntlet.files import atomic_path, canonical_json, write_bytes, write_json


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
