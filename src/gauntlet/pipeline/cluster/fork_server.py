"""Fork server of a SLURM job: a process with the libraries loaded, forked once for each cell of the job.

Loading torch takes longer than a small cell. Where cells share a job, Snakemake's process starts a server that imports
the libraries and waits; `gauntlet STAGE` then asks it for a fork, which runs the command as if it had been started
instead: same arguments, folder, environment variables and streams. So each cell still has its own process, log and exit
code. The server loads installed packages only: modules that fingerprints cover are imported by each fork, so that an
edit between two cells is both run and fingerprinted. It opens no GPU and starts no thread pool, which forks cannot use.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from gauntlet.core.errors import GauntletError
from gauntlet.core.signals import STOPPING
from gauntlet.core.user_modules import SAFE_PATH

SERVER_VARIABLE = "GAUNTLET_FORK_SERVER"
"""Holds the folder of the server's socket; the socket is named by the server's number of threads."""

# torch and pyarrow import the third and fourth when they first need them.
LIBRARIES = (
    "torch",
    "pyarrow.parquet",
    "torch.fx.experimental.symbolic_shapes",
    "pandas",
    "pydantic",
    "safetensors.torch",
)

# Only the forking thread survives a fork, and Arrow's allocator would start one for its housekeeping.
_WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}

_INTEGER_BYTES = 8
_PARENT_POLL_S = 1.0
_FORK_POLL_S = 0.02


class Request(NamedTuple):
    """A command to run: module, arguments, folder and environment variables, and its three standard streams."""

    module: str
    arguments: list[str]
    folder: str
    variables: dict[str, str]
    streams: list[int]


def start(threads: int) -> None:
    """Start a server for the commands of this process that use `threads` threads; it ends with this process.

    Commands run on their own where the server cannot be started, so nothing here makes a job fail.
    """
    count = str(threads)
    environment = {**os.environ, **_WITHOUT_THREADS, **SAFE_PATH, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    # The disk may be full, or the path longer than a socket's may be.
    with suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        folder = tempfile.mkdtemp(prefix="gauntlet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        listener.bind(str(Path(folder, count)))
        listener.listen()
        server = subprocess.Popen([sys.executable, "-m", __name__], stdin=listener.fileno(), env=environment)
        atexit.register(server.wait)
        atexit.register(server.kill)
        os.environ[SERVER_VARIABLE] = folder


def run_in_fork(module: str, arguments: Sequence[str]) -> None:
    """Run `python -m MODULE ARGUMENTS` in a fork of the server, and exit as the fork does.

    Returns if there is no server with the command's number of threads, which results depend on by rounding. Raises
    GauntletError when the server is lost meanwhile.
    """
    if SERVER_VARIABLE not in os.environ or "--threads" not in arguments[:-1]:
        return
    variables = dict(os.environ)
    address = Path(variables.pop(SERVER_VARIABLE), arguments[arguments.index("--threads") + 1])
    content = json.dumps([module, list(arguments), str(Path.cwd()), variables]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(address))
            socket.send_fds(connection, [len(content).to_bytes(_INTEGER_BYTES)], [0, 1, 2])
            connection.sendall(content)
            fork = _receive_integer(connection)
        except (OSError, EOFError):
            return
        try:
            _exit_as(fork, connection)
        except EOFError as error:
            raise GauntletError("the fork server of this job has ended", remedy="run the same command again") from error


def _exit_as(fork: int, connection: socket.socket) -> NoReturn:
    """Forward signals to the fork, and exit with its exit code or by the signal that killed it."""

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(fork, number)

    for number in STOPPING:
        signal.signal(number, forward)
    code = os.waitstatus_to_exitcode(_receive_integer(connection))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _receive_integer(connection: socket.socket) -> int:
    content = connection.recv(_INTEGER_BYTES, socket.MSG_WAITALL)
    if not content:
        raise EOFError
    return int.from_bytes(content)


def serve(listener: socket.socket) -> Request | None:
    """Load the libraries and fork for each request until the parent process has ended.

    Returns the request in the fork that is to run it, and None in the server itself.
    """
    for number in STOPPING:
        # SLURM signals all processes of a job: these signals are for the cells, and the server ends with its parent.
        signal.signal(number, signal.SIG_IGN)
    gc.disable()
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)
    # The libraries never become garbage, and a collection in a fork would copy every page that it visits.
    gc.freeze()
    gc.enable()
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([listener], [], [], _PARENT_POLL_S)[0]:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                if request := _answer(connection):
                    return request
    return None


def _answer(connection: socket.socket) -> Request | None:
    """Fork for one request and return it in the fork; kill the fork if the waiting command is killed."""
    length, streams, _, _ = socket.recv_fds(connection, _INTEGER_BYTES, 3)
    content = connection.recv(int.from_bytes(length), socket.MSG_WAITALL)
    fork = os.fork()
    if not fork:
        module, arguments, folder, variables = json.loads(content)
        return Request(module, arguments, folder, variables, streams)
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        connection.sendall(fork.to_bytes(_INTEGER_BYTES))
    ended = status = 0
    while not ended:
        if select.select([connection], [], [], _FORK_POLL_S)[0]:
            os.kill(fork, signal.SIGKILL)
        ended, status = os.waitpid(fork, os.WNOHANG)
    connection.sendall(status.to_bytes(_INTEGER_BYTES))
    return None


def _run(request: Request) -> NoReturn:
    """Run a request in this process and exit.

    Exits without finalizing the interpreter, which with these libraries takes longer than a small cell.
    """
    code: Any = 1
    try:
        for number in STOPPING:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for target, stream in enumerate(request.streams):
            os.dup2(stream, target)
            os.close(stream)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.variables)
        sys.argv = [request.module, *request.arguments]
        runpy.run_module(request.module, run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    server_socket = socket.socket(fileno=0)
    received = serve(server_socket)
    if received is not None:
        # The command's standard input replaces descriptor 0.
        server_socket.detach()
        _run(received)
