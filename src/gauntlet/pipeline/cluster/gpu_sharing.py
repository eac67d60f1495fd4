"""Cells side by side on one GPU: their share of its memory, and NVIDIA's MPS, which lets their kernels overlap.

Without MPS the GPU switches between processes, and computes for one of them at a time. The daemon of MPS has folders of
its own, belongs to one job or one local run, and ends with the process that started it, however that ends: this module,
run as a program, watches over it.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from gauntlet.core.gpu_share import SHARE_VARIABLE
from gauntlet.core.processes import wait_or_kill
from gauntlet.core.signals import STOPPING
from gauntlet.core.user_modules import SAFE_PATH

CONTROL = "nvidia-cuda-mps-control"
DEVICES = Path("/dev")
DEVICE_FILES = ("nvidia[0-9]*", "kfd")

_FOLDER_VARIABLES = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
_START_S = 10.0
_POLL_S = 0.1
_GRACE_S = 10.0
_END_S = 3 * _GRACE_S
"""Seconds for the watcher to end, which waits twice at most `_GRACE_S` seconds for the daemon."""


def computes_on_gpu(device: str) -> bool:
    """Return whether cells on this machine compute on a GPU, for a value of `execution.device`; torch is not asked."""
    if device != "auto":
        return device.startswith("cuda")
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not is_hidden and any(path for pattern in DEVICE_FILES for path in DEVICES.glob(pattern))


def share_gpu(cells: int) -> None:
    """Prepare the environment of this process for `cells` cells at once on one GPU, which its commands inherit.

    Each may allocate an equal share of the memory. MPS is started if its program is on PATH and it starts; a daemon
    that the environment already names is used.
    """
    if cells == 1:
        return
    os.environ[SHARE_VARIABLE] = str(cells)
    if shutil.which(CONTROL) and _FOLDER_VARIABLES[0] not in os.environ:
        # The disk may be full: cells then run without MPS.
        with suppress(OSError):
            _start_mps()


def _start_mps() -> None:
    # Short: the pipes are sockets, whose names have few characters.
    folder = tempfile.mkdtemp(prefix="mps-")
    environment = {**os.environ, **SAFE_PATH, **dict.fromkeys(_FOLDER_VARIABLES, folder)}
    # Closed by the system when this process ends; no process started from here inherits it.
    watcher = subprocess.Popen(
        [sys.executable, "-m", __name__, folder],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    is_ready = select.select([watcher.stdout], [], [], _START_S)[0] and watcher.stdout.read(1)
    atexit.register(wait_or_kill, watcher, _END_S)
    atexit.register(watcher.stdin.close)
    if is_ready:
        os.environ.update(dict.fromkeys(_FOLDER_VARIABLES, folder))


def _answers() -> bool:
    """Return whether the daemon of MPS answers a question."""
    with suppress(OSError, subprocess.TimeoutExpired):
        question = b"get_default_active_thread_percentage\n"
        done = subprocess.run([CONTROL], input=question, capture_output=True, timeout=_GRACE_S, check=False)
        return done.returncode == 0
    return False


def watch(folder: str) -> None:
    """Run the daemon of MPS until the process that started this one has ended, and remove its folder."""
    for number in STOPPING:
        # SLURM signals all processes of a job, and cells save what they have while MPS still serves them.
        signal.signal(number, signal.SIG_IGN)
    try:
        daemon = subprocess.Popen([CONTROL, "-f"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        # It ends where it cannot serve, as without a GPU of NVIDIA's, and answers where it can.
        while daemon.poll() is None and not _answers():
            if select.select([0], [], [], _POLL_S)[0]:
                # The process that started this one has ended.
                break
        if daemon.poll() is None:
            with suppress(OSError):
                os.write(1, b"1")
            os.close(1)
            sys.stdin.buffer.read()
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([CONTROL], input=b"quit\n", timeout=_GRACE_S, check=False)
                daemon.wait(timeout=_GRACE_S)
            daemon.kill()
            daemon.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.argv[1])
