"""Real processes, stopped and killed at chosen moments, which resume to the same result."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from gauntlet.core.parquet import read_table
from gauntlet.pipeline import paths
from tests.support.interruptible import (
    ATTACK,
    CONFIG,
    MODEL,
    attack_outcome,
    model_outcome,
    run_command,
    start_command,
    temporary_files,
)
from tests.support.stub_outputs import write_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The results of an unbroken run, its folder, and the seconds of each command."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_config(folder, CONFIG)
    seconds = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("prepare", "train", "evaluate"):
            begun_s = time.monotonic()
            run_command(folder, stage)
            seconds[stage] = time.monotonic() - begun_s
        return folder, {"train": model_outcome(), "evaluate": attack_outcome()}, seconds


def copied(unbroken, folder, *cells):
    """Copy configuration and data to another folder, and the model if requested."""
    write_config(folder, CONFIG)
    (folder / "data").symlink_to(unbroken[0] / "data")
    for cell in cells:
        target = folder / paths.model_folder(cell)
        target.mkdir(parents=True)
        for path in (unbroken[0] / paths.model_folder(cell)).iterdir():
            (target / path.name).write_bytes(path.read_bytes())


def partial_files(folder):
    """List the files to resume from."""
    return sorted(path for path in folder.rglob(".partial-*/*") if not path.name.startswith("."))


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("train", signal.SIGKILL),
        ("train", signal.SIGUSR2),
        ("evaluate", signal.SIGKILL),
        ("evaluate", signal.SIGINT),
    ],
)
def test_a_command_stopped_repeatedly_ends_with_the_same_bytes(unbroken, tmp_path, monkeypatch, stage, number):
    """Signals come at random moments after its start, until it is left to finish."""
    monkeypatch.chdir(tmp_path)
    copied(unbroken, tmp_path, *([] if stage == "train" else [MODEL]))
    draw = random.Random(f"{stage} {number.name}")
    ended = []
    for _ in range(2):
        process = start_command(tmp_path, stage)
        # Before that, Python itself ends it, with a traceback at SIGINT.
        wait_for(process, lambda process=process: catches(process, signal.SIGUSR2))
        time.sleep(draw.uniform(0, 0.7) * unbroken[2][stage])
        process.send_signal(number)
        _, said = process.communicate(timeout=600)
        ended.append(process.returncode)
        if process.returncode == 75:
            assert "Traceback" not in said, said
            assert re.search(rf"stopped by {number.name}; .*the same command continues from there", said), said
    # A signal after the command's last line ends the process in the system's own way.
    assert set(ended) <= {0, 75, -number}, ended
    run_command(tmp_path, stage)
    assert {"train": model_outcome, "evaluate": attack_outcome}[stage]() == unbroken[1][stage]
    assert temporary_files(tmp_path) == []


def wait_for(process, ready):
    """Wait for a condition while the process runs."""
    for _ in range(30_000):
        if ready():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("nothing came")


def catches(process, number):
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(caught >> (number - 1) & 1)


def is_paused(process):
    """Return whether a process is paused."""
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def test_a_stopped_training_names_its_step_and_resumes_there(unbroken, tmp_path, monkeypatch):
    """The exit code is 75 with one line, and no output is published meanwhile."""
    monkeypatch.chdir(tmp_path)
    copied(unbroken, tmp_path)
    process = start_command(tmp_path, "train", pause_after=20)
    wait_for(process, lambda: is_paused(process))
    assert partial_files(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 75
    line = said.splitlines()[-1]
    assert re.fullmatch(
        r"gauntlet: train tiny variant=softmax seed=0: stopped by SIGTERM; epoch \d+, step \d+ of \d+ is kept; "
        r"the same command continues from there",
        line,
    ), line
    assert not any(path.exists() for path in MODEL.outputs)
    epoch, step = re.search(r"epoch (\d+), step (\d+)", line).groups()
    assert f"resuming from epoch {epoch}, step {step}" in run_command(tmp_path, "train")
    assert model_outcome() == unbroken[1]["train"]
    assert "up to date" in run_command(tmp_path, "train")


def test_a_second_interrupt_kills_at_once(unbroken, tmp_path, monkeypatch):
    """Finished parts stay, and damaged ones are made again."""
    monkeypatch.chdir(tmp_path)
    copied(unbroken, tmp_path, MODEL)
    process = start_command(tmp_path, "evaluate", pause_after=8)
    wait_for(process, lambda: is_paused(process))
    assert len(partial_files(tmp_path)) >= 4
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode in (-signal.SIGINT, 75)
    tables = [path for path in partial_files(tmp_path) if path.suffix == ".parquet"]
    tables[0].write_bytes(tables[0].read_bytes()[:-30])
    said = run_command(tmp_path, "evaluate")
    assert "samples 0 to 15 are evaluated again" in said
    assert re.search(rf"{(len(tables) - 1) * 16} of \d+ samples are finished already", said)
    assert attack_outcome() == unbroken[1]["evaluate"]
    assert temporary_files(tmp_path) == []


def test_shards_are_gathered_to_the_same_rows(unbroken, tmp_path, monkeypatch):
    """The whole command takes the shards' parts and makes the missing ones."""
    monkeypatch.chdir(tmp_path)
    copied(unbroken, tmp_path, MODEL)
    run_command(tmp_path, "evaluate", "--shard", "1/3")
    run_command(tmp_path, "evaluate", "--shard", "3/3")
    assert not paths.samples(ATTACK).exists()
    count = len(unbroken[1]["evaluate"][0])
    third = count // 3
    said = run_command(tmp_path, "evaluate")
    done = int(re.search(r"(\d+) of \d+ samples are finished already", said)[1])
    assert done == third + count - 2 * count // 3
    rows, whole = read_table(paths.samples(ATTACK)), unbroken[1]["evaluate"][0]
    exact = ["index", "label", "status", "epsilon", "clean_prediction", "adversarial_prediction", "sample_hash"]
    assert rows.select(exact) == whole.select(exact)
    assert temporary_files(tmp_path) == []
    assert "up to date" in run_command(tmp_path, "evaluate", "--shard", "2/3")
