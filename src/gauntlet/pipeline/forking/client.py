"""Client of a fork server: the waiting command, which imports nothing but this.

It runs once per cell, so it avoids every import that the interpreter has not made at its start, and that it can do
without.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from types import FrameType

SERVER_VARIABLE = "GAUNTLET_FORK_SERVER"
"""Holds the folder of the servers' sockets; each is named by its server's number of threads."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Variables in which Snakemake names the number of threads of a job; libraries read them as they are loaded."""

INTEGER_BYTES = 8

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""The signals of `gauntlet.core.signals.STOPPING`, whose module imports more than this one."""

_EXIT_CODE_INTERRUPTED = 75


def run_in_fork(module: str, arguments: Sequence[str]) -> None:
    """Run `python -m MODULE ARGUMENTS` in a fork of the server, and exit as the fork does.

    Returns if there is no server for this number of threads, which results depend on by rounding, if it does not serve
    this command, or if it ends before the command does: the caller then runs the command. By that time its fork has
    ended too, and what it has saved counts as after any other interruption.
    """
    folder, threads = os.environ.get(SERVER_VARIABLE), _threads(arguments)
    if not folder or not threads:
        return
    import socket

    variables = {name: value for name, value in os.environ.items() if name != SERVER_VARIABLE}
    content = encode(module, arguments, os.getcwd(), variables)  # noqa: PTH109
    # Ctrl-Z waits until there is a fork to pause.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])
    # Until the fork has begun there is nothing to forward a signal to, nor to report.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.path.join(folder, threads))  # noqa: PTH118 (pathlib takes longer to import)
            socket.send_fds(connection, [len(content).to_bytes(INTEGER_BYTES)], [0, 1, 2])
            connection.sendall(content)
            fork = _receive_integer(connection)
            _wait(fork, connection)
        except (OSError, EOFError):  # the server is lost, or does not serve this command
            pass
    signal.signal(signal.SIGINT, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])


def encode(module: str, arguments: Sequence[str], folder: str, variables: dict[str, str]) -> bytes:
    """Encode a request; none of its parts can contain a NUL."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    parts = [sys.prefix, module, folder, str(len(arguments)), *arguments, *settings]
    return os.fsencode("\0".join(parts))


def decode(content: bytes) -> tuple[str, str, str, list[str], dict[str, str]]:
    """Decode a request into the environment's folder, module, working folder, arguments and variables."""
    prefix, module, folder, count, *rest = os.fsdecode(content).split("\0")
    arguments, settings = rest[: int(count)], rest[int(count) :]
    return prefix, module, folder, arguments, dict(setting.split("=", 1) for setting in settings)


def _threads(arguments: Sequence[str]) -> str | None:
    """Return the number of threads of a command: its own option, else that of the environment."""
    own = list(arguments)
    options = own[: own.index("--")] if "--" in own else own
    for number, option in enumerate(options):
        if option == "--threads":
            return options[number + 1] if number + 1 < len(options) else None
        if option.startswith("--threads="):
            return option.partition("=")[2]
    return os.environ.get(THREAD_VARIABLES[0])


def _wait(fork: int, connection: socket.socket) -> None:
    """Forward signals to the fork, and exit with its exit code, or as a shell reports the signal that killed it.

    Returns when server and fork have ended without an exit code: either of them keeps the connection open.
    """
    received = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        try:  # noqa: SIM105 (contextlib takes longer to import)
            os.kill(fork, number)
        except ProcessLookupError:
            pass

    def pause(number: int, frame: FrameType | None) -> None:
        _signal_group(fork, signal.SIGSTOP)
        # Returns when this process continues.
        os.kill(os.getpid(), signal.SIGSTOP)
        _signal_group(fork, signal.SIGCONT)

    before = [(number, signal.signal(number, forward)) for number in FORWARDED]
    if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
        before.append((signal.SIGTSTP, signal.signal(signal.SIGTSTP, pause)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    try:
        code = os.waitstatus_to_exitcode(_receive_integer(connection))
    except (OSError, EOFError):
        for number, handler in before:
            signal.signal(number, handler)
        if received:
            os._exit(_EXIT_CODE_INTERRUPTED)
        os.write(2, b"gauntlet: the process with the libraries has ended; the command is run again without it\n")
        return
    if code < 0:
        # Were this process killed too, the shell would write that on the terminal, in the middle of the display.
        name = signal.Signals(-code).name
        reason = ", perhaps since memory ran out" if -code == signal.SIGKILL else ""
        os.write(2, f"gauntlet: killed by {name}{reason}; the same command continues from there\n".encode())
        code = 128 - code
    # Nothing was written or registered here that an orderly end of the interpreter would take care of.
    os._exit(code)


def _signal_group(fork: int, number: int) -> None:
    """Signal a fork and the processes that it has started; no terminal does, since they have a session of their own."""
    try:  # noqa: SIM105 (contextlib takes longer to import)
        os.killpg(fork, number)
    except ProcessLookupError:
        pass


def _receive_integer(connection: socket.socket) -> int:
    import socket

    content = connection.recv(INTEGER_BYTES, socket.MSG_WAITALL)
    if len(content) < INTEGER_BYTES:
        raise EOFError
    return int.from_bytes(content)
