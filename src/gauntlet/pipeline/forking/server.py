"""Fork server of a run: a process with the libraries loaded, forked once for each command.

Loading torch takes longer than a small cell. `gauntlet STAGE` therefore asks a server for a fork, which runs the
command as if it had been started instead: same arguments, folder, environment variables and streams. So each cell still
has its own process, log and exit code. A server opens no GPU and starts no thread pool, which forks cannot use.

It ends when the process that started it does, and its forks with it; they end at once if it is killed.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from gauntlet.core.signals import STOPPING
from gauntlet.pipeline.forking.client import INTEGER_BYTES, decode
from gauntlet.pipeline.forking.preloading import Preloaded

_REQUEST_S = 10.0
_GRACE_S = 5.0
"""Seconds for forks to save their work when the process that started the server has ended."""

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


class Request(NamedTuple):
    """A command to run: module, arguments, folder and environment variables, and its three standard streams."""

    module: str
    arguments: list[str]
    folder: str
    variables: dict[str, str]
    streams: list[int]


class Server:
    """The loop that forks for requests, and reports how forks end.

    `listener` accepts requests, `lifeline` is readable when the process that started the server has ended, `prepare`
    loads what a command with these configuration files needs and returns whether a fork may run it.
    """

    def __init__(self, listener: socket.socket, lifeline: int, prepare: Callable[[str, list[Path]], bool]) -> None:
        self.listener, self.lifeline, self.prepare = listener, lifeline, prepare
        self.connections: dict[int, socket.socket] = {}
        self.ended, self.noted = os.pipe()
        os.set_blocking(self.noted, False)
        os.set_blocking(self.ended, False)

    def serve(self) -> Request | None:
        """Fork for each request until the lifeline ends; return the request in a fork, None in the server."""
        for number in STOPPING:
            # SLURM signals all processes of a job: these signals are for the cells, and the server ends on its own.
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.noted, warn_on_full_buffer=False)
        deadline_s = None
        while deadline_s is None or (self.connections and time.monotonic() < deadline_s):
            for ready in self._wait(is_ending=deadline_s is not None):
                if ready == self.lifeline:
                    deadline_s = time.monotonic() + _GRACE_S
                    self._kill_all(signal.SIGTERM)
                    # A fork that is paused would not see it.
                    self._kill_all(signal.SIGCONT)
                elif ready == self.listener.fileno():
                    connection, _ = self.listener.accept()
                    if request := self._answer(connection):
                        return request
            self._report_ended()
        self._kill_all(signal.SIGKILL)
        # Without a report, a command would take over from its fork.
        self._report_ended(options=0)
        return None

    def _wait(self, *, is_ending: bool) -> list[int]:
        """Wait for something to do; kill forks whose waiting command has been killed."""
        poll = select.poll()
        forks = {connection.fileno(): fork for fork, connection in self.connections.items()}
        for descriptor in [self.ended, *forks, *([] if is_ending else [self.lifeline, self.listener.fileno()])]:
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(100 if is_ending else None)]
        for descriptor in ready:
            if descriptor in forks:
                _kill(forks[descriptor], signal.SIGKILL)
                self.connections.pop(forks[descriptor]).close()
        with suppress(BlockingIOError):
            os.read(self.ended, 4096)
        return ready

    def _answer(self, connection: socket.socket) -> Request | None:
        """Fork for one request and return it in the fork; a request that is not served is only closed."""
        streams: list[int] = []
        fork = None
        try:
            connection.settimeout(_REQUEST_S)
            length, streams, _, _ = socket.recv_fds(connection, INTEGER_BYTES, 3)
            content = _receive(connection, int.from_bytes(length))
            connection.settimeout(None)
            prefix, module, folder, arguments, variables = decode(content)
            command = next((word for word in arguments if not word.startswith("-")), "")
            configs = [Path(folder, word) for word in arguments if word.endswith((".yaml", ".yml"))]
            if prefix == sys.prefix and len(streams) == 3 and self.prepare(command, configs):
                server = os.getpid()
                # A signal for the fork waits until it has handlers of its own.
                signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
                fork = os.fork()
                if fork:
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
                else:
                    self._leave(server)
                    # Open as long as this process is, so that its command knows when both it and the server are gone.
                    connection.detach()
                    return Request(module, arguments, folder, variables, streams)
                os.setpgid(fork, fork)
                connection.sendall(fork.to_bytes(INTEGER_BYTES))
                self.connections[fork] = connection
        except (OSError, ValueError):
            # The command was killed meanwhile, or memory is short; without an answer it runs on its own.
            if fork:
                _kill(fork, signal.SIGKILL)
        finally:
            if fork != 0:
                for stream in streams:
                    os.close(stream)
                if fork not in self.connections:
                    connection.close()
        return None

    def _leave(self, server: int) -> None:
        """Release in a fork what belongs to the server, and end with it."""
        os.setpgid(0, 0)
        if hasattr(libc := ctypes.CDLL(None), "prctl"):
            libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self.ended, self.noted, self.lifeline):
            os.close(descriptor)
        self.listener.close()
        for connection in self.connections.values():
            connection.close()

    def _report_ended(self, *, options: int = os.WNOHANG) -> None:
        """Send each ended fork's status to its command; with `options` 0 wait until all have ended."""
        for fork in list(self.connections):
            ended, status = os.waitpid(fork, options)
            if ended:
                with self.connections.pop(fork) as connection, suppress(OSError):
                    connection.sendall(status.to_bytes(INTEGER_BYTES))

    def _kill_all(self, number: signal.Signals) -> None:
        for fork in self.connections:
            _kill(fork, number)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Return that many bytes; with a time limit, a single call returns what has arrived so far."""
    content = bytearray()
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise OSError("a request broke off")
        content += part
    return bytes(content)


def _kill(fork: int, number: signal.Signals) -> None:
    """Signal a fork and the processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(fork, number)


def _run(request: Request) -> NoReturn:
    """Run a request in this process and exit.

    Exits without finalizing the interpreter, which with these libraries takes longer than a small cell.
    """
    code: Any = 1
    try:
        for number in STOPPING:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        for target, stream in enumerate(request.streams):
            os.dup2(stream, target)
            os.close(stream)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.variables)
        sys.argv = [request.module, *request.arguments]
        gc.enable()
        runpy.run_module(request.module, run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)  # noqa: T201
            code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve; the arguments are the descriptors of listener and lifeline, and the folder of the socket."""
    # As commands do; in a fork the stream has become one of another kind, whose settings cannot be changed any more.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    listener, lifeline, folder = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
    request = Server(listener, lifeline, Preloaded().prepare).serve()
    if request is not None:
        _run(request)
    shutil.rmtree(folder, ignore_errors=True)
    # Finalizing takes long with these libraries, some of which then print what they did not release.
    os._exit(0)


if __name__ == "__main__":
    main()
