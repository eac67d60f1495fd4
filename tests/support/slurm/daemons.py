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
    """Make the PATH on which daemons are found: that of users need not name where they lie."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


SEARCH_PATH = search_path()
"""The same, before any test put something in front."""


def missing_programs(names: tuple[str, ...]) -> list[str]:
    """Name the programs that this machine has not."""
    return [name for name in names if shutil.which(name, path=SEARCH_PATH) is None]


class Daemons:
    """The daemons of a folder, where each has its output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str, environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
        """Start one and wait until it is ready."""
        program = shutil.which(name, path=SEARCH_PATH)
        with (self.folder / f"{name}.out").open("a") as out:
            self._running[name] = subprocess.Popen(
                [str(program), *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.until(ready, name)

    def until(self, ready: Callable[[], bool], name: str) -> None:
        """Wait until what one of them does is done."""
        deadline_s = time.monotonic() + 30
        while not ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline_s:
                raise AssertionError(f"{name} does not come up:\n{self.logs()}")
            time.sleep(0.1)

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """End one, by force if it takes longer than ten seconds."""
        daemon = self._running.pop(name)
        daemon.send_signal(how)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def stop_all(self) -> None:
        """End all, the last one first."""
        for name in reversed(list(self._running)):
            self.stop(name)

    def logs(self) -> str:
        """What the daemons have to say."""
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def listens(port: int) -> bool:
    """Whether something takes connections at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Find ports of this machine that nothing listens at."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
