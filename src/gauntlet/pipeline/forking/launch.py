"""Start of fork servers, by the process that starts the commands: Snakemake, here or in a job."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gauntlet.core.processes import wait_or_kill
from gauntlet.core.user_modules import SAFE_PATH
from gauntlet.pipeline.forking.client import SERVER_VARIABLE, THREAD_VARIABLES

# Only the forking thread survives a fork, and Arrow's allocator would start one for its housekeeping.
_WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}

_END_S = 20.0
"""Seconds for a server to end; its forks have a few of them to save their work."""


def start(thread_counts: Iterable[int]) -> None:
    """Start a server per number of threads for the commands of this process; they end with it, however it ends.

    A server loads nothing before it is asked to. Commands run on their own where a server cannot be started, so nothing
    here makes a run fail. Systems other than Linux do not support forks of processes that have loaded these libraries.
    """
    if sys.platform != "linux":
        return
    # The disk may be full, or the path longer than a socket's may be.
    with suppress(OSError):
        folder = tempfile.mkdtemp(prefix="gauntlet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Closed by the system when this process ends; the servers see it. No process started from here inherits it.
        lifeline, held = os.pipe()
        try:
            servers = [_start(folder, count, lifeline) for count in sorted(set(thread_counts))]
        finally:
            os.close(lifeline)
        for server in servers:
            atexit.register(wait_or_kill, server, _END_S)
        atexit.register(os.close, held)
        os.environ[SERVER_VARIABLE] = folder


def _start(folder: str, threads: int, lifeline: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **_WITHOUT_THREADS, **SAFE_PATH, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder, str(threads))))
        listener.listen()
        descriptors = (listener.fileno(), lifeline)
        command = [sys.executable, "-m", f"{__package__}.server", *map(str, descriptors), folder]
        # In a session of its own, the signals of a terminal reach the server's forks once: through their commands.
        return subprocess.Popen(
            command,
            env=environment,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
