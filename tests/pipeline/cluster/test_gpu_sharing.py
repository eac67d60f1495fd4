"""MPS and the share of memory of cells on one GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gauntlet.config.execution import Execution
from gauntlet.core.device_memory import CudaMemory
from gauntlet.core.gpu_share import SHARE_VARIABLE, cells_on_gpu
from gauntlet.pipeline.cluster import gpu_sharing
from gauntlet.pipeline.stages import device as stage_device

# A replacement for the program of NVIDIA's driver, which needs a GPU: a daemon with `-f`, else a console, which fails
# before there is a daemon.
CONTROL = """#!/bin/sh
if [ "$1" = -f ]; then
    echo "started $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY" >> "$RECORD"
    touch "$CUDA_MPS_LOG_DIRECTORY/control.log"
    while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/quit" ]; do sleep 0.05; done
    echo ended >> "$RECORD"
else
    [ -e "$CUDA_MPS_LOG_DIRECTORY/control.log" ] || exit 1
    read command; touch "$CUDA_MPS_PIPE_DIRECTORY/$command"
fi
"""
USER = """
import os, sys, time
from gauntlet.pipeline.cluster import gpu_sharing
gpu_sharing._START_S = float(os.environ.get("START_S", "300"))
gpu_sharing.share_gpu(2)
print(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"), os.environ["GAUNTLET_CELLS_PER_GPU"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """Put a program in the place of MPS's on PATH; return its record."""

    def install(script: str = CONTROL) -> Path:
        program = tmp_path / "bin" / gpu_sharing.CONTROL
        program.parent.mkdir()
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("RECORD", str(tmp_path / "record"))
        for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
            monkeypatch.delenv(name, raising=False)
        return tmp_path / "record"

    return install


def start_user():
    """Start a process that shares a GPU, and return it with its pipe folder and its number of cells."""
    user = subprocess.Popen([sys.executable, "-c", USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    folder, cells = user.stdout.readline().split()
    return user, folder, cells


def wait_until(is_true):
    """Wait until a function returns a true value."""
    deadline_s = time.monotonic() + 300
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGKILL])
def test_the_daemon_ends_with_its_process_however_that_ends(control, number):
    """Its folders are its own, and are removed."""
    record = control()
    user, folder, cells = start_user()
    assert cells == "2"
    assert record.read_text() == f"started {folder} {folder}\n"
    assert Path(folder, "control.log").exists()
    if number is not None:
        user.send_signal(number)
    user.communicate("")
    wait_until(lambda: record.read_text().endswith("ended\n") and not Path(folder).exists())


@pytest.mark.parametrize("script", ["exit 1", '[ "$1" = -f ] && sleep 2; exit 1'], ids=["at once", "later"])
def test_without_mps_cells_run_all_the_same(control, script):
    """A daemon that ends, as without a GPU, is not named to the cells, however long that takes."""
    control(f"#!/bin/sh\n{script}\n")
    user, folder, cells = start_user()
    user.communicate("")
    assert (folder, cells) == ("None", "2")


def test_a_daemon_that_never_answers_is_not_used_and_ends(control, monkeypatch):
    """The folder's name may be too long for its sockets."""
    record = control('#!/bin/sh\n[ "$1" = -f ] || exit 1\necho $$ >> "$RECORD"\nexec sleep 600\n')
    monkeypatch.setenv("START_S", "3")
    user, folder, cells = start_user()
    assert (folder, cells) == ("None", "2")
    wait_until(record.exists)
    user.communicate("")
    wait_until(lambda: not Path(f"/proc/{record.read_text().strip()}").exists())


@pytest.mark.parametrize(
    ("device", "visible", "files", "expected"),
    [
        ("auto", None, ["nvidia0"], True),
        ("auto", None, ["nvidiactl"], False),
        ("auto", None, ["kfd"], True),
        ("auto", "", ["nvidia0"], False),
        ("cuda:1", None, [], True),
        ("cpu", None, ["nvidia0"], False),
    ],
)
def test_a_gpu_of_this_machine_is_found_without_torch(tmp_path, monkeypatch, device, visible, files, expected):
    """By the files of its driver, unless the configuration or the environment decides."""
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(gpu_sharing, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_sharing.computes_on_gpu(device) == expected


def test_free_memory_is_this_process_s_share(monkeypatch):
    """Of 80 bytes two processes have 40 each, of which this one holds 10 and uses 4."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 10)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4)
    assert CudaMemory(torch.device("cuda")).free() == 70 + 6
    monkeypatch.setenv(SHARE_VARIABLE, "2")
    assert cells_on_gpu() == 2
    assert CudaMemory(torch.device("cuda")).free() == 30 + 6


@pytest.mark.parametrize(("name", "index"), [("auto", 1), ("cuda", 1), ("cuda:0", 0)])
def test_a_cell_may_allocate_its_share_of_the_gpu(monkeypatch, name, index):
    """On the current GPU, here 1, unless the configuration names one; torch itself checks the arguments."""
    limits = []
    for module in (torch.cuda, torch.cuda.memory):
        monkeypatch.setattr(module, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: 1, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *given: limits.append(given), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for setting in ("set_determinism", "set_threads"):
        monkeypatch.setattr(stage_device, setting, lambda *_: None)
    monkeypatch.setenv(SHARE_VARIABLE, "4")
    stage_device.open_device(Execution(device=name))
    assert limits == [(0.25, index)]
