"""`gauntlet status --watch` on a terminal and elsewhere."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

from gauntlet.core.progress import ProgressRecord
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.cluster.queue import Job
from gauntlet.pipeline.status import CellState, watching
from gauntlet.pipeline.status.queue_poller import QueuePoller, job_comment
from gauntlet.pipeline.status.snapshot import as_renderable, as_text
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.synthetic_outputs import SMALL, finish_cell, finish_cells

PGD = make_cell("evaluate", "small", "softmax", 0, "pgd")
OTHER_SEED = make_cell("evaluate", "small", "softmax", 1, "pgd")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of the finished run, which is the current folder, without a queue."""
    subprocess.run(["cp", "-r", f"{finished}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    return tmp_path


def write_log(cell, text, *, age_s=-5.0):
    """Write the log of a cell's attempt with a given age in seconds."""
    log = paths.log(cell)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    os.utime(log, (time.time() - age_s, time.time() - age_s))


def board_of(folder, *jobs):
    """Return the board for a number of jobs in the queue."""
    queue = QueuePoller(folder)
    queue.jobs = list(jobs)
    return watching.take_snapshot(staleness_in(folder), queue)


def row(board, variant):
    """Return a variant's row of the table, by column."""
    header, *rows = [line.split("  ") for line in as_text(board).split("\n\n")[0].splitlines()]
    cells = [[part.strip() for part in line if part.strip()] for line in (header, *rows)]
    return next(dict(zip(cells[0], line, strict=True)) for line in cells[1:] if line[0] == variant)


def remove(cell):
    """Remove a cell's files."""
    for path in cell.outputs:
        path.unlink()


def test_the_table_has_a_row_per_variant_and_a_column_per_attack(folder):
    """A field is done if all its seeds are, and a dash if it does not apply."""
    board = board_of(folder)
    assert row(board, "softmax") == {
        "small": "softmax",
        "train": "done",
        "pgd": "done",
        "noise": "done",
        "lipschitz": "–",
        "diagnose": "done",
        "inspect": "done",
    }
    assert row(board, "lipschitz")["lipschitz"] == "done"
    assert "no controller is running" in as_text(board)


def write_progress(cell, done, *, age_s=0.0, shard=(1, 1), **changes):
    """Write this process's progress on 20 samples of a cell, 6 s per sample, aged `age_s` seconds."""
    record = ProgressRecord.current(
        done=done, total=20, unit="samples", resumed=0, seconds=6.0 * done, time_s=time.time() - age_s
    )
    file = paths.progress_file(cell, *shard)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record.model_copy(update=changes).model_dump_json())


@pytest.fixture
def stopped_clock(monkeypatch):
    """Let no time pass, however slow the machine is."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)


@pytest.mark.usefixtures("stopped_clock")
def test_a_running_cell_shows_its_share_and_the_time_left(folder):
    """They are read from its progress file, less the file's age."""
    remove(PGD)
    mine = lock.acquire(paths.RESULTS)
    try:
        write_log(PGD, "loss 1\nkept what is done\n")
        write_progress(PGD, 5, age_s=60.0)
        board = board_of(folder)
    finally:
        lock.release(paths.RESULTS, mine)
    assert row(board, "softmax")["pgd"] == "1/2 done, 1 running, 25 %, 30 s"
    assert "controller: process" in as_text(board)
    (status,) = board.run.in_state(CellState.RUNNING)
    assert status.share == 0.25
    assert status.left_s == pytest.approx(30.0)


def test_no_time_is_left_to_show_before_the_first_sample_is_finished(folder):
    """The share is known, and the speed is not."""
    remove(PGD)
    write_progress(PGD, 0)
    assert row(board_of(folder), "softmax")["pgd"] == "1/2 done, 1 running, 0 %"


@pytest.mark.usefixtures("stopped_clock")
def test_time_that_passed_since_the_progress_was_written_counts(folder):
    """A cell with 30 s left ten seconds ago has 20 s left, never a negative time."""
    remove(PGD)
    running = Job("1", "RUNNING", "", job_comment(PGD))
    for age_s, left_s in ((10.0, 20.0), (100.0, 0.0)):
        write_progress(PGD, 15, age_s=age_s, host="node17")
        (status,) = board_of(folder, running).run.in_state(CellState.RUNNING)
        assert status.left_s == pytest.approx(left_s)


def test_a_cell_of_a_live_process_is_running_without_log_controller_or_queue(folder):
    """A stage run by hand counts; shards are added up, whatever an earlier log ends with."""
    config = copy.deepcopy(SMALL)
    config["experiments"]["small"]["attacks"]["pgd"]["shards"] = 3
    write_config(folder, config)
    remove(PGD)
    write_log(PGD, "gauntlet: the disk is full\n")
    write_progress(PGD, 5, shard=(1, 3))
    write_progress(PGD, 15, shard=(3, 3))
    (status,) = board_of(folder).run.in_state(CellState.RUNNING)
    assert (status.cell, status.share) == (PGD, 0.5)
    assert status.left_s == pytest.approx(90.0, abs=5)


@pytest.mark.parametrize("changes", [{"pid": 2**22 - 1}, {"born_s": 1.0}, {"host": "node17"}])
def test_the_progress_of_a_killed_process_makes_no_cell_running(folder, changes):
    """A reused process id has another start time, and other hosts' processes are unknown."""
    remove(PGD)
    write_progress(PGD, 5, **changes)
    assert row(board_of(folder), "softmax")["pgd"] == "1/2 done, 1 missing"
    running = board_of(folder, Job("1", "RUNNING", "", job_comment(PGD))).run.in_state(CellState.RUNNING)
    assert [status.share for status in running] == [0.25 if "host" in changes else None]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"done": 1}'])
def test_damaged_progress_is_ignored(folder, text):
    """The cell is running, as the queue states, without a share."""
    remove(PGD)
    write_progress(PGD, 5)
    paths.progress_file(PGD).write_text(text)
    (status,) = board_of(folder, Job("1", "RUNNING", "", job_comment(PGD))).run.in_state(CellState.RUNNING)
    assert (status.share, status.left_s) == (None, None)


def test_queued_cells_show_their_reasons(folder):
    """A cell is queued if all its jobs wait, even after a failure; a running one needs no log."""
    remove(PGD)
    remove(OTHER_SEED)
    write_log(PGD, "gauntlet: the disk is full\n")
    waits, runs = Job("1", "PENDING", "Priority", job_comment(PGD)), Job("2", "RUNNING", "", job_comment(OTHER_SEED))
    group = Job("3", "PENDING", "Resources", "rule_1b0b_evaluate")
    board = board_of(folder, waits, runs, group)
    assert row(board, "softmax")["pgd"] == "1 running, 1 queued"
    text = as_text(board)
    assert "queue: 1 PENDING (Priority)" in text
    assert "group jobs: 1 1b0b_evaluate PENDING (Resources)" in text
    assert "failed:" not in text


def test_jobs_of_finished_cells_are_ignored(folder):
    """The queue lists a finished job for some minutes."""
    board = board_of(folder, Job("1", "COMPLETING", "", job_comment(PGD)))
    assert row(board, "softmax")["pgd"] == "done"


def test_failures_are_shown_with_their_last_line(folder):
    """The first few are named, and the others counted."""
    for seed in (0, 1):
        for variant in ("softmax", "lipschitz"):
            for attack in ("pgd", "noise"):
                cell = make_cell("evaluate", "small", variant, seed, attack)
                remove(cell)
                write_log(cell, f"gauntlet: {attack} failed\n")
    text = as_text(board_of(folder))
    assert f"failed: {PGD}: gauntlet: pgd failed" in text
    assert "failed: 3 cells more" in text
    assert row(board_of(folder), "softmax")["pgd"] == "failed"


def test_a_table_wider_than_the_terminal_is_continued_below(folder):
    """No column is cut, and every block names the variants."""
    console = Console(width=40, file=io.StringIO(), force_terminal=False)
    console.print(as_renderable(board_of(folder), 40))
    text = console.file.getvalue()
    assert all(name in text for name in ("train", "pgd", "noise", "lipschitz", "diagnose", "inspect"))
    assert text.count("softmax") == 3
    assert "…" not in text


def test_without_a_terminal_each_change_is_printed_once(folder, monkeypatch):
    """The table is printed at the start and the end, and a line per change of state between."""
    remove(PGD)
    happens = iter(
        [
            lambda: None,
            lambda: (write_log(PGD, "begun\n"), write_progress(PGD, 1)),
            lambda: (write_log(PGD, "begun\ngoes on\n"), write_progress(PGD, 2)),
            lambda: (write_log(PGD, "gauntlet: the disk is full\n"), paths.progress_file(PGD).unlink()),
            lambda: write_config(folder, {"experiments": 3}),
            lambda: write_config(folder, SMALL),
            lambda: finish_cell(staleness_in(folder), PGD),
            lambda: finish_cells(folder),
        ]
    )
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: next(happens)())
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    mine = lock.acquire(paths.RESULTS)
    try:
        watching.watch(lambda: staleness_in(folder), console, interval_s=1.0)
    finally:
        lock.release(paths.RESULTS, mine)
    text = console.file.getvalue()
    lines = [line.split(" ", 1)[1] for line in text.splitlines() if line[2:3] == ":"]
    assert lines[0] == f"{PGD}: running"
    assert lines[1] == f"{PGD}: failed: gauntlet: the disk is full"
    assert lines[2].startswith("not updated: ")
    assert lines[3] == f"{PGD}: done"
    assert len([line for line in lines if str(PGD) in line]) == 3
    assert text.count("softmax  ") == 2
    assert "\x1b" not in text


def test_a_terminal_gets_a_live_table_that_ends_when_all_is_done(folder, monkeypatch):
    """The table is redrawn in place."""
    remove(PGD)
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: finish_cells(folder))
    console = Console(width=120, file=io.StringIO(), force_terminal=True)
    watching.watch(lambda: staleness_in(folder), console, interval_s=1.0)
    text = console.file.getvalue()
    assert "1/2 done, 1 missing" in text
    assert "\x1b[" in text


def test_ctrl_c_ends_it_quietly(folder, monkeypatch):
    """An interrupt ends the display without an error."""
    remove(PGD)

    def press(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", press)
    watching.watch(lambda: staleness_in(folder), Console(file=io.StringIO()), interval_s=1.0)


def test_polling_takes_a_small_share_of_the_time(folder, monkeypatch):
    """A large grid is polled less often than requested."""
    now_s = iter(range(0, 1000, 60))
    monkeypatch.setattr(watching.time, "monotonic", lambda: float(next(now_s)))
    watcher = watching._Watcher(lambda: staleness_in(folder), QueuePoller(folder), Console(), 5.0, False)
    watcher.take()
    assert watcher.pause_s >= 60 / 0.2


def test_the_command_watches_without_torch(folder):
    """A finished run is shown once."""
    program = (
        "import sys; from gauntlet.cli import app\n"
        "try: app()\n"
        "finally: assert not {'torch', 'matplotlib', 'foolbox'} & set(sys.modules), 'slow imports'"
    )
    command = [sys.executable, "-c", program, "status", "--watch"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text.startswith("small")
    refused = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert "leave out --json and --every" in refused.stderr
