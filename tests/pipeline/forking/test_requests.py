"""Requests to a fork server that loads nothing: their size, signals around the fork, pauses, a server that hangs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gauntlet.pipeline.forking import client
from gauntlet.pipeline.forking.client import INTEGER_BYTES
from gauntlet.pipeline.forking.server import _receive

# Serves every command until its input ends; `after_fork` runs in both processes as soon as there are two.
SERVER = """
import os, socket, sys, time
from gauntlet.pipeline.forking import server
server._GRACE_S = 60.0
fork = os.fork
def os_fork():
    process = fork()
    after_fork(process)
    return process
def after_fork(process):
    pass
AFTER_FORK
os.fork = os_fork
listener = socket.socket(socket.AF_UNIX)
listener.bind("1")
listener.listen()
print("ready", flush=True)
request = server.Server(listener, 0, lambda *command: True).serve()
if request:
    server._run(request)
"""

COMMAND = """
import os, pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path("saved").touch()
    os._exit(75)
pathlib.Path("result").write_text(f"{os.getpid()} {len(os.environ.get('LARGE', ''))} {len(sys.argv)}.")
if "waiting" in sys.argv:
    signal.signal(signal.SIGTERM, save)
    pathlib.Path("waiting").touch()
    time.sleep(600)
"""


@pytest.fixture
def serve(tmp_path):
    """A function that starts a server in the folder of the test."""
    servers = []
    (tmp_path / "command.py").write_text(COMMAND)

    def start(after_fork=""):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [sys.executable, "-c", SERVER.replace("AFTER_FORK", after_fork)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        servers.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams))
        assert servers[-1].stdout.readline() == b"ready\n"
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.wait()
        for stream in (server.stdin, server.stdout):
            stream.close()


def status_of_fork(folder, variables):
    """Send a request as a client does, and return the wait status of the fork."""
    content = client.encode("command", ["train"], str(folder), variables)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "1"))
        socket.send_fds(connection, [len(content).to_bytes(INTEGER_BYTES)], [0, 1, 2])
        connection.sendall(content)
        assert client._receive_integer(connection) > 0
        return client._receive_integer(connection)


def start_command(folder):
    """Start a client whose fork waits."""
    code = "from gauntlet.pipeline.forking.client import run_in_fork; run_in_fork('command', ['train', 'waiting'])"
    environment = {**os.environ, client.SERVER_VARIABLE: str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment)


def fork_in(folder):
    """Wait until a fork waits, and return its process id."""
    await_((folder / "waiting").exists)
    return int((folder / "result").read_text().split()[0])


def await_(condition):
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + 1200
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def state(process):
    """Return the state of a process, T if it is paused; empty once it has ended."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def test_a_request_with_a_large_environment_is_served_whole(serve, tmp_path):
    """It is many times as large as what a socket holds."""
    serve()
    assert status_of_fork(tmp_path, {"LARGE": "x" * 5_000_000}) == 0
    assert re.fullmatch(r"\d+ 5000000 2\.", (tmp_path / "result").read_text())


def test_a_request_is_received_in_parts_and_refused_when_it_breaks_off():
    near, far = socket.socketpair()
    far.settimeout(300)
    content = os.urandom(3_000_000)

    def send():
        with near:
            near.sendall(content)
            near.sendall(content[:1000])

    sender = threading.Thread(target=send)
    sender.start()
    with far:
        assert _receive(far, len(content)) == content
        with pytest.raises(OSError, match="broke off"):
            _receive(far, len(content))
    sender.join()


@pytest.mark.parametrize("number", client.FORWARDED)
def test_a_signal_right_after_the_fork_reaches_it(serve, tmp_path, number):
    """The server ignores these signals, and the fork does not although it has not yet set its own handlers."""
    serve(f"""
def after_fork(process):
    if process:
        os.kill(process, {int(number)})
        open("sent", "w").close()
    else:
        while not os.path.exists("sent"):
            time.sleep(0.02)
""")
    status = status_of_fork(tmp_path, {})
    # Python reports Ctrl-C as an exception.
    assert os.waitstatus_to_exitcode(status) == (1 if number == signal.SIGINT else -number)
    assert not (tmp_path / "result").exists()


def test_ctrl_z_pauses_a_cell_until_its_command_continues(serve, tmp_path):
    """A terminal sends SIGTSTP to the command, and not to the fork, which has a session of its own."""
    serve()
    command = start_command(tmp_path)
    fork = fork_in(tmp_path)
    assert fork != command.pid
    for number, is_paused in ((signal.SIGTSTP, True), (signal.SIGCONT, False), (signal.SIGTSTP, True)):
        command.send_signal(number)
        for process in (command.pid, fork):
            await_(lambda process=process, is_paused=is_paused: (state(process) == "T") == is_paused)
    # As a terminal that closes does.
    command.terminate()
    command.send_signal(signal.SIGCONT)
    assert command.wait(1200) == 75
    assert (tmp_path / "saved").exists()


def test_ctrl_z_before_the_fork_pauses_it_too(serve, tmp_path):
    """The libraries may still be loading."""
    serve("""
def after_fork(process):
    if process:
        while not os.path.exists("go"):
            time.sleep(0.02)
""")
    command = start_command(tmp_path)
    fork = fork_in(tmp_path)
    command.send_signal(signal.SIGTSTP)
    (tmp_path / "go").touch()
    await_(lambda: state(command.pid) == "T")
    await_(lambda: state(fork) == "T")
    command.kill()
    command.wait()


def test_a_paused_cell_saves_its_work_when_the_run_ends(serve, tmp_path):
    """The server lets it continue: a paused process receives no request to stop."""
    server = serve()
    command = start_command(tmp_path)
    fork = fork_in(tmp_path)
    assert fork != command.pid
    command.send_signal(signal.SIGTSTP)
    await_(lambda: state(fork) == "T")
    server.stdin.close()
    await_(lambda: not state(fork))
    assert (tmp_path / "saved").exists()
    command.send_signal(signal.SIGCONT)
    assert command.wait(1200) == 75


def test_the_process_that_started_a_server_ends_though_the_server_hangs():
    """A server in uninterruptible sleep, on a file system that is gone, would be waited for forever."""
    job = f"""
import os, signal, sys
from gauntlet.pipeline.forking import launch
launch._END_S = 0.2
launch.start([1])
folder = os.environ[{client.SERVER_VARIABLE!r}]
children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
os.kill(int(children[0]), signal.SIGSTOP)
print(*children)
"""
    done = subprocess.run([sys.executable, "-c", job], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert not state(int(done.stdout))


def test_a_client_imports_little():
    """It runs once per cell; of this package it imports itself."""
    code = "import sys; old = set(sys.modules); import gauntlet.pipeline.forking.client; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    own = {name for name in loaded if name.startswith("gauntlet")}
    assert own == {"gauntlet", "gauntlet.pipeline", "gauntlet.pipeline.forking", "gauntlet.pipeline.forking.client"}
    assert loaded.isdisjoint({"contextlib", "pathlib", "re", "socket", "subprocess", "typing"})
