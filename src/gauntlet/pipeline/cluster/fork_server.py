"""One process of a job that loads the libraries, and is forked for each of the job's cells.

Loading torch takes longer than a small cell does. Where cells share a job, Snakemake's process starts one that imports
the libraries and waits; `gauntlet STAGE` then asks that for a fork of itself, which runs the command as if it had been
started in its place: same arguments, folder, variables and streams. So each cell still has a process, a log and an end
of its own. Only what is installed is loaded beforehand: modules of which fingerprints are taken are read by each cell
anew, as the fingerprints are. Nothing that a fork could not use is touched before: no GPU, no pool of threads.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import logging
import os
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

VARIABLE = "GAUNTLET_PRELOADED"
"""Names the folder of the socket at which the process listens; the socket's name is its number of threads."""

# The third and fourth are loaded by torch and pyarrow when they are first used.
LIBRARIES = (
    "torch",
    "pyarrow.parquet",
    "torch.fx.experimental.symbolic_shapes",
    "pandas",
    "pydantic",
    "safetensors.torch",
)

# A fork has no thread but the one that forked, and Arrow's memory would have one for its housekeeping.
_ALONE = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}

_WORD = 8
_LOOK_S = 1.0
_SHORT_S = 0.02


class Request(NamedTuple):
    """A command that a fork is to run: its arguments, folder and variables, and its three standard streams."""

    arguments: list[str]
    folder: str
    variables: dict[str, str]
    streams: list[int]


def start(threads: int) -> None:
    """Start the process that loads the libraries, for commands with so many threads that this process starts.

    It ends with this process. Without it commands do their work themselves, so that nothing here can fail a job.
    """
    count = str(threads)
    environment = {**os.environ, **_ALONE, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    # No room for a folder, or so long a path that no socket has it.
    with suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        folder = tempfile.mkdtemp(prefix="gauntlet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        listener.bind(str(Path(folder, count)))
        listener.listen()
        server = subprocess.Popen([sys.executable, "-m", __name__], stdin=listener.fileno(), env=environment)
        atexit.register(server.wait)
        atexit.register(server.kill)
        os.environ[VARIABLE] = folder


def hand_over(arguments: Sequence[str]) -> None:
    """Have a command run by a fork of the process that has loaded the libraries, and exit as that does.

    Returns where there is no such process, or none with the command's number of threads, on which results depend.
    Raises GauntletError when that process is lost on the way.
    """
    if VARIABLE not in os.environ or "--threads" not in arguments[:-1]:
        return
    variables = dict(os.environ)
    at = Path(variables.pop(VARIABLE), arguments[arguments.index("--threads") + 1])
    content = json.dumps([arguments, str(Path.cwd()), variables]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(at))
            socket.send_fds(connection, [len(content).to_bytes(_WORD)], [0, 1, 2])
            connection.sendall(content)
            fork = _received(connection)
        except (OSError, EOFError):
            return
        try:
            _leave_as(fork, connection)
        except EOFError as error:
            problem = "the process that had loaded the libraries is gone"
            raise GauntletError(problem, remedy="run the same command again") from error


def _leave_as(fork: int, connection: socket.socket) -> NoReturn:
    """Pass signals on to the fork, and leave with its exit code, or by the signal that killed it."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(fork, number)

    for number in STOPPING:
        signal.signal(number, pass_on)
    code = os.waitstatus_to_exitcode(_received(connection))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _received(connection: socket.socket) -> int:
    word = connection.recv(_WORD, socket.MSG_WAITALL)
    if not word:
        raise EOFError
    return int.from_bytes(word)


def serve(listener: socket.socket) -> Request | None:
    """Load the libraries, then wait for commands; returns in the fork that is to run one, with what is to be run.

    In the process itself it returns nothing, when that which started it is gone.
    """
    for number in STOPPING:
        # They are for the cells: a job's processes are all sent the signal, and this one ends with the job.
        signal.signal(number, signal.SIG_IGN)
    gc.disable()
    for library in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)
    # None of it will be garbage, and looking for some would copy in each fork every page that is looked at.
    gc.freeze()
    gc.enable()
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([listener], [], [], _LOOK_S)[0]:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                if request := _answer(connection):
                    return request
    return None


def _answer(connection: socket.socket) -> Request | None:
    """Fork for one command, give what it is in the fork; the fork is killed when the command is."""
    length, streams, _, _ = socket.recv_fds(connection, _WORD, 3)
    content = connection.recv(int.from_bytes(length), socket.MSG_WAITALL)
    fork = os.fork()
    if not fork:
        arguments, folder, variables = json.loads(content)
        return Request(arguments, folder, variables, streams)
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        connection.sendall(fork.to_bytes(_WORD))
    ended = status = 0
    while not ended:
        if select.select([connection], [], [], _SHORT_S)[0]:
            os.kill(fork, signal.SIGKILL)
        ended, status = os.waitpid(fork, os.WNOHANG)
    connection.sendall(status.to_bytes(_WORD))
    return None


def _run(request: Request) -> NoReturn:
    """Run a command in the place of the process that was started for it.

    Ends without taking the libraries down one by one, which takes longer than a small cell.
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
        sys.argv = ["gauntlet", *request.arguments]
        importlib.import_module("gauntlet.cli").main()
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
    listening = socket.socket(fileno=0)
    asked = serve(listening)
    if asked is not None:
        # Its place is taken by the command's standard input.
        listening.detach()
        _run(asked)
