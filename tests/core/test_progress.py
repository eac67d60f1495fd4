"""Progress of long steps: log lines and the record for other processes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys

import pytest

from gauntlet.core import progress as module
from gauntlet.core.progress import progress, read_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only when moved."""
    now_s = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])

    def move(seconds):
        now_s[0] += seconds

    return move


def test_a_record_is_written_at_the_start_then_at_most_once_a_second_and_removed_at_the_end(tmp_path, clock):
    file = tmp_path / "logs" / "cell.progress.json"
    with progress("cell", 20, "samples", file=file) as report:
        assert read_progress(file).done == 0
        report.advance(3)
        assert read_progress(file).done == 0
        clock(2.0)
        report.advance(1)
        record = read_progress(file)
        assert (record.done, record.total, record.unit, record.seconds) == (4, 20, "samples", 2.0)
        assert record.seconds_left(record.time_s) == pytest.approx(8.0)
        assert record.seconds_left(record.time_s + 3.0) == pytest.approx(5.0)
        assert record.seconds_left(record.time_s + 99.0) == 0.0
    assert list(file.parent.iterdir()) == []


def test_units_of_an_earlier_attempt_do_not_count_as_fast(tmp_path, clock, caplog):
    """Time left is estimated from what this attempt did; before its first unit nothing is known."""
    file = tmp_path / "cell.progress.json"
    with caplog.at_level(logging.INFO, "gauntlet"), progress("cell", 20, "samples", done=16, file=file) as report:
        assert read_progress(file).seconds_left(0.0) is None
        clock(30.0)
        report.advance(1, "loss 1")
        assert read_progress(file).seconds_left(0.0) == pytest.approx(90.0)
    assert [record.getMessage() for record in caplog.records] == ["cell: 17/20 samples, 90 s left, loss 1"]


def test_units_that_an_earlier_attempt_finished_may_be_known_late(tmp_path, clock, caplog):
    """The time before counts for nothing."""
    file = tmp_path / "cell.progress.json"
    with caplog.at_level(logging.INFO, "gauntlet"), progress("cell", 20, "epochs", file=file) as report:
        clock(500.0)
        report.resume(16)
        assert (read_progress(file).done, read_progress(file).seconds_left(0.0)) == (16, None)
        clock(30.0)
        report.advance(1)
        assert read_progress(file).seconds_left(0.0) == pytest.approx(90.0)
    assert caplog.messages == ["cell: 17/20 epochs, 90 s left"]


def test_a_step_that_fails_leaves_no_record(tmp_path):
    file = tmp_path / "cell.progress.json"
    with contextlib.suppress(RuntimeError), progress("cell", 20, "samples", file=file):
        assert file.exists()
        raise RuntimeError
    assert not file.exists()


def test_a_folder_that_cannot_be_written_fails_no_step(tmp_path, clock):
    """A file in the place of the log folder, which not even root can write into."""
    (tmp_path / "logs").write_text("")
    file = tmp_path / "logs" / "cell.progress.json"
    with progress("cell", 2, "samples", file=file) as report:
        clock(2.0)
        report.advance()
    assert read_progress(file) is None


def test_a_fork_neither_writes_nor_removes_the_record_of_its_parent(tmp_path, clock):
    file = tmp_path / "cell.progress.json"
    with progress("cell", 20, "samples", file=file) as report:
        child = os.fork()
        if not child:
            clock(2.0)
            report.advance(7)
            report._second.remove()
            os._exit(0)
        os.waitpid(child, 0)
        assert read_progress(file).done == 0


def test_the_record_of_a_killed_process_is_ignored(tmp_path):
    """Its file stays and is valid; the next attempt replaces it."""
    file = tmp_path / "cell.progress.json"
    program = (
        "import os, sys; from pathlib import Path; from gauntlet.core.progress import progress, read_progress\n"
        "file = Path(sys.argv[1])\n"
        "with progress('cell', 20, 'samples', file=file):\n"
        "    assert read_progress(file) is not None\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(file)], check=False).returncode == -9
    assert json.loads(file.read_text())["total"] == 20
    assert read_progress(file) is None
