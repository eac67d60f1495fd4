"""Daemons that a test starts, waits for, and ends by their process ids."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def search_path() -> str:
    """Return a PATH with the folders of daemons, which a user's PATH may lack."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


SEARCH_PATH = search_path()
"""The search path before any test changes PATH."""


def missing_programs(names: tuple[str, ...]) -> list[str]:
    """List the programs that this machine lacks."""
    return [name for name in names if shutil.which(name, path=SEARCH_PATH) is None]


class Daemons:
    """Daemons of a folder, with their output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str, environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
        """Start a daemon and wait until it is ready."""
        program = shutil.which(name, path=SEARCH_PATH)
        with (self.folder / f"{name}.out").open("a") as out:
            self._running[name] = subprocess.Popen(
                [str(program), *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.wait_until(ready, name)

    def wait_until(self, ready: Callable[[], bool], name: str) -> None:
        """Wait until a condition on a daemon holds."""
        deadline_s = time.monotonic() + 120
        while not ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"{name} does not come up:\n{self.logs()}")
            time.sleep(0.1)

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """End a daemon, by force if it takes longer than ten seconds."""
        daemon = self._running.pop(name)
        daemon.send_signal(how)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def stop_all(self) -> None:
        """End all daemons, the last one first."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def logs(self) -> str:
        """Return the output and logs of the daemons."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def listens(port: int) -> bool:
    """Return whether a process listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Return free ports of this machine."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
