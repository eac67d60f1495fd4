"""Forks of a process that has loaded the libraries: cells of a job, of a local run, and what ends them."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from gauntlet.core.signals import STOPPING
from gauntlet.pipeline import paths
from gauntlet.pipeline.forking import client, launch
from gauntlet.pipeline.forking.client import SERVER_VARIABLE
from tests.support.cells import make_cell
from tests.support.output_digests import differing, digests
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY, link_workflow

pytestmark = pytest.mark.slow

ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""

# Starts the process as a job's Snakemake does, says where it listens, and stays until its input ends.
JOB = f"""
import ctypes, os, sys
from gauntlet.pipeline.forking import launch
# Adopts orphans and never asks for their exit codes, like the first process of some containers.
assert ctypes.CDLL(None).prctl({ADOPT_ORPHANS}, 1) == 0
launch.start([1, 2])
print(os.environ["{SERVER_VARIABLE}"], flush=True)
sys.stdin.read()
"""

ATTACKS = """
import os, pathlib, signal, sys, time, torch
from gauntlet.registry import ATTACKS
@ATTACKS.register("odd", kind="bounded", norms=("linf",), access="scores", source="none")
def odd(model, x, y, *, epsilon, doing: str = ""):
    pathlib.Path("process_ids").write_text(f"{os.getpid()} {os.getppid()} {doing}")
    pathlib.Path("process_settings").write_text(f"{torch.get_num_threads()} {os.environ.get('MARK')} {os.getcwd()}")
    if doing == "dying":
        os.kill(os.getpid(), signal.SIGKILL)
    if doing == "raising":
        raise RuntimeError("odd")
    if doing == "writing" and not pathlib.Path("wrote").exists():
        pathlib.Path("wrote").touch()
        whole = pathlib.Path.replace
        pathlib.Path.replace = lambda self, to: time.sleep(600) if to.name == "samples.parquet" else whole(self, to)
    begun_s = time.monotonic()
    while doing == "waiting" and not pathlib.Path("released").exists() and time.monotonic() < begun_s + 600:
        time.sleep(0.05)
    return x
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained model."""
    folder = tmp_path_factory.mktemp("trained")
    config = copy.deepcopy(TINY)
    config["execution"] = {"device": "cpu"}
    experiment = config["experiments"]["small"]
    experiment["variants"] = {"softmax": experiment["variants"]["softmax"]}
    del experiment["certificates"]
    for doing in ("dying", "raising", "waiting", "writing", "nothing"):
        attack = {"name": "my_attacks:odd", "norm": "linf", "epsilons": [0.1], "doing": doing}
        experiment["attacks"][doing] = attack
    (folder / "my_attacks.py").write_text(ATTACKS)
    write_config(folder, config)
    link_workflow(folder)
    for stage in ("prepare", "train"):
        assert command(folder, stage).wait() == 0, (folder / "log").read_text()
    return folder


def begun():
    """Start a job; return the process that a job's Snakemake is, and the variables it adds for its cells."""
    holder = subprocess.Popen([sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return holder, {SERVER_VARIABLE: holder.stdout.readline().strip()}


@pytest.fixture(scope="module")
def job():
    """The variables of a job."""
    holder, variables = begun()
    with holder:
        yield variables
        holder.stdin.close()
        assert holder.wait(1200) == 0


def command(folder, *arguments, threads="1", log="log", **variables):
    """Start the `gauntlet` command as a rule does."""
    (folder / "process_ids").unlink(missing_ok=True)
    line = [sys.executable, "-m", "gauntlet", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, **variables}
    with (folder / log).open("w") as stream:
        return subprocess.Popen(line, cwd=folder, env=environment, stderr=stream)


def attack(folder, name, **options):
    """Start the evaluation of one attack."""
    return command(folder, "evaluate", "--attack", name, "--force", **options)


def process_ids(folder, *, by=""):
    """Wait until an attack has written its process id and its parent's; return both."""
    deadline_s = time.monotonic() + 1200
    while not (found := re.search(rf"(\d+) (\d+) {by}", _text(folder / "process_ids"))):
        assert time.monotonic() < deadline_s, _text(folder / "log") + _text(folder / "job.log")
        time.sleep(0.05)
    return int(found[1]), int(found[2])


def _text(path):
    return path.read_text() if path.exists() else ""


def is_alive(process):
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_fork_writes_the_bytes_of_a_separate_process(trained, job):
    """Digests of rows and images agree, and the cell was a fork."""
    for name in ("pgd", "nothing"):
        assert attack(trained, name).wait() == 0
    own = digests(trained)
    for name in ("pgd", "nothing"):
        paths_of = [trained / path for path in make_cell("evaluate", "small", "softmax", 0, name).outputs]
        before = [path.stat().st_mtime_ns for path in paths_of]
        asked = attack(trained, name, **job)
        assert asked.wait() == 0
        assert [path.stat().st_mtime_ns for path in paths_of] != before
    assert process_ids(trained)[0] != asked.pid
    assert differing(digests(trained), own) == []


def test_a_cell_that_is_killed_dies_alone(trained, job):
    """The command ends as a shell reports the signal, as when memory runs out, and the next cell is served."""
    assert attack(trained, "dying", **job).wait() == 128 + signal.SIGKILL
    server = process_ids(trained)[1]
    assert attack(trained, "nothing", **job).wait() == 0
    assert process_ids(trained)[1] == server


def test_a_failed_cell_writes_its_error_to_its_own_log(trained, job):
    """The streams and the exit code are the command's."""
    assert attack(trained, "raising", **job).wait() == 1
    assert (trained / "log").read_text().splitlines()[-1].startswith("gauntlet: ")
    assert "raised RuntimeError: odd" in (trained / "log").read_text()


def test_a_request_to_stop_reaches_the_cell(trained, job):
    """Sent to the command or to all processes of the job, it ends the cell as without a fork."""
    asked = attack(trained, "waiting", **job)
    _, server = process_ids(trained)
    os.kill(server, signal.SIGTERM)
    asked.send_signal(signal.SIGTERM)
    assert asked.wait(1200) == 75
    assert "stopped by SIGTERM" in (trained / "log").read_text()
    assert is_alive(server)


def test_a_killed_command_ends_its_fork(trained, job):
    """The fork does not outlive the command."""
    asked = attack(trained, "waiting", **job)
    fork, server = process_ids(trained)
    asked.kill()
    asked.wait()
    deadline_s = time.monotonic() + 1200
    while is_alive(fork):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert is_alive(server)


def test_an_edit_between_two_cells_takes_effect(trained, job):
    """Each cell loads our modules and a user's, as its fingerprint requires."""
    assert attack(trained, "nothing", **job).wait() == 0
    source = trained / "my_attacks.py"
    # Of another length: bytecode is matched to its source by second and size.
    source.write_text(source.read_text().replace('doing == "raising"', 'doing in ("raising", "nothing")'))
    try:
        assert attack(trained, "nothing", **job).wait() == 1
    finally:
        source.write_text(ATTACKS)


def test_without_a_server_a_command_runs_on_its_own(trained, tmp_path):
    """The socket is gone."""
    asked = attack(trained, "nothing", **{SERVER_VARIABLE: str(tmp_path)})
    assert asked.wait() == 0
    assert process_ids(trained)[0] == asked.pid


def test_each_number_of_threads_has_its_server(trained, job):
    """Threads are set before libraries are loaded, and change the last bits; a count without a server has no fork."""
    for threads, forked in (("1", True), ("2", True), ("3", False)):
        asked = attack(trained, "nothing", threads=threads, **job)
        assert asked.wait() == 0
        assert (process_ids(trained)[0] != asked.pid) == forked
        assert (trained / "process_settings").read_text().split()[0] == threads


def test_a_fork_has_the_variables_of_its_command(trained, job):
    """They may differ from those of the server."""
    assert attack(trained, "nothing", MARK="here", **job).wait() == 0
    assert (trained / "process_settings").read_text().split()[1:] == ["here", str(trained)]


def test_several_commands_have_forks_at_a_time(trained, job):
    """One waits for nothing that another does, and each has its log."""
    waiting = attack(trained, "waiting", log="log of one", **job)
    fork, server = process_ids(trained)
    assert attack(trained, "raising", log="log of other", **job).wait() == 1
    assert process_ids(trained)[1] == server
    assert is_alive(fork)
    waiting.kill()
    waiting.wait()
    assert "odd" in _text(trained / "log of other")
    assert "odd" not in _text(trained / "log of one")


def test_a_command_that_loses_its_server_runs_again_on_its_own(trained):
    """The fork ends with the server, so that two processes never make one cell; the command succeeds."""
    holder, variables = begun()
    with holder:
        asked = attack(trained, "waiting", **variables)
        fork, server = process_ids(trained)
        (trained / "process_ids").unlink()
        os.kill(server, signal.SIGKILL)
        assert process_ids(trained)[0] == asked.pid
        (trained / "released").touch()
        assert asked.wait(1200) == 0
        (trained / "released").unlink()
        assert not is_alive(fork)
        assert "run again without it" in _text(trained / "log")
        holder.stdin.close()


def test_what_a_fork_was_writing_is_removed_although_nobody_noticed_its_end(trained):
    """The command that runs again finds the id of its fork in use."""
    holder, variables = begun()
    samples = trained / paths.samples(make_cell("evaluate", "small", "softmax", 0, "writing"))
    with holder:
        asked = attack(trained, "writing", **variables)
        fork, server = process_ids(trained)
        deadline_s = time.monotonic() + 1200
        while not (begun_files := list(samples.parent.glob(f".samples.parquet.{fork}@*"))):
            assert time.monotonic() < deadline_s, _text(trained / "log")
            time.sleep(0.05)
        os.kill(server, signal.SIGKILL)
        assert asked.wait(1200) == 0
        assert psutil.Process(fork).status() == psutil.STATUS_ZOMBIE
        assert samples.exists()
        assert [file for file in begun_files if file.exists()] == []
        holder.stdin.close()


def test_a_command_that_is_stopped_and_loses_its_server_stops(trained):
    """It does not begin again, and counts as interrupted."""
    holder, variables = begun()
    with holder:
        asked = attack(trained, "waiting", **variables)
        _, server = process_ids(trained)
        asked.send_signal(signal.SIGTERM)
        # The stop is requested of the fork, which is given time to save its work.
        time.sleep(0.5)
        os.kill(server, signal.SIGKILL)
        assert asked.wait(1200) == 75
        holder.stdin.close()


def test_the_signals_that_are_forwarded_are_those_that_stop():
    """The client imports too little to share the list."""
    assert client.FORWARDED == STOPPING


def test_a_request_is_decoded_as_it_was_encoded():
    """Arguments may be empty or have line breaks; variables may have no value, or several `=`."""
    arguments, variables = ["a", "", "b\n=c"], {"A": "", "B": "x=y\n", "ä": "\udce4"}
    content = client.encode("gauntlet", arguments, "/a folder", variables)
    assert client.decode(content) == (sys.prefix, "gauntlet", "/a folder", arguments, variables)


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (["train", "--threads", "2", "--", "config.yaml"], "2"),
        (["train", "--threads=2"], "2"),
        (["train", "--", "--threads", "2"], "7"),
        (["figures"], "7"),
    ],
)
def test_the_threads_of_a_command(monkeypatch, arguments, threads):
    """Its own option counts, then the variable that Snakemake sets for each job."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert client._threads(arguments) == threads


def test_the_server_has_one_thread_and_no_gpu(trained, job):
    """A fork could not use others."""
    assert attack(trained, "nothing", **job).wait() == 0
    process = Path(f"/proc/{process_ids(trained)[1]}")
    assert len(os.listdir(process / "task")) == 1
    assert [one for one in map(os.readlink, (process / "fd").iterdir()) if "nvidia" in one] == []


@pytest.mark.parametrize("place", ["missing", "long" * 30])
def test_cells_run_without_a_server_that_cannot_start(tmp_path, monkeypatch, place):
    """The temporary folder is missing, or its path too long for a socket."""
    if place != "missing":
        (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    launch.start([1])
    assert SERVER_VARIABLE not in os.environ


def test_the_server_ends_with_the_job(trained):
    """It is not a daemon."""
    holder, variables = begun()
    with holder:
        assert attack(trained, "nothing", **variables).wait() == 0
        server = process_ids(trained)[1]
        holder.kill()
    deadline_s = time.monotonic() + 1200
    while is_alive(server):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def job_of(folder, *attacks):
    """Run the plugin's script for a node: Snakemake with the cells to make."""
    line = f"""
        --snakefile workflow/Snakefile --allowed-rules evaluate --cores all --attempt 1 --force --retries 0 --no-hooks
        --target-files-omit-workdir-adjustment --max-inventory-time 0 --nolock --ignore-incomplete --keep-incomplete
        --rerun-triggers mtime params input --latency-wait 300 --scheduler greedy --set-resource-scopes slot=local
        --mode remote --executor slurm-jobstep --jobs 1
        --target-jobs {" ".join(f"evaluate:experiment=small,variant=softmax,seed=0,attack={name}" for name in attacks)}
    """
    with (folder / "job.log").open("w") as log:
        return subprocess.Popen([sys.executable, "-m", "snakemake", *line.split()], cwd=folder, stdout=log, stderr=log)


def forget(folder, *attacks):
    """Remove the outputs of some attacks."""
    for name in attacks:
        paths_of = make_cell("evaluate", "small", "softmax", 0, name).outputs
        for path in (folder / path for path in paths_of):
            path.unlink(missing_ok=True)
    return paths_of[0]


def test_one_cell_of_a_job_fails_and_the_others_are_made(trained):
    """They use the job's one process, without steps and Snakemakes; a cell with its own job does not."""
    forget(trained, "raising", "dying", "nothing")
    assert job_of(trained, "raising", "dying", "nothing").wait(1200) == 1
    log = (trained / "job.log").read_text()
    assert log.count("Building DAG of jobs") == 1
    for name, made in (("raising", False), ("dying", False), ("nothing", True)):
        assert (trained / paths.samples(make_cell("evaluate", "small", "softmax", 0, name))).exists() == made
    assert (
        "RuntimeError: odd"
        in (trained / paths.log(make_cell("evaluate", "small", "softmax", 0, "raising"))).read_text()
    )


@pytest.mark.parametrize(("others", "forked"), [((), False), (("raising",), True)])
def test_a_cell_that_shares_its_job_is_a_fork(trained, others, forked):
    """Its parent is the fork server, and otherwise a shell of Snakemake's."""
    forget(trained, "waiting", *others)
    (trained / "process_ids").unlink(missing_ok=True)
    job = job_of(trained, *others, "waiting")
    cell = process_ids(trained, by="waiting")
    try:
        parent = Path(f"/proc/{cell[1]}/cmdline").read_text()
        assert ("gauntlet.pipeline.forking.server" in parent) == forked
    finally:
        os.kill(cell[0], signal.SIGKILL)
        job.wait(1200)


def test_a_job_waits_for_files_that_are_visible_late(trained):
    """Only the manifest of the weights is visible for a while, as on another node's file system."""
    wanted = forget(trained, "nothing")
    weights = trained / paths.model_weights(make_cell("train", "small", "softmax", 0))
    weights.rename(trained / "late")
    job = job_of(trained, "nothing")
    deadline_s = time.monotonic() + 1200
    while "Waiting at most" not in (trained / "job.log").read_text():
        assert job.poll() is None, _text(trained / "job.log")
        assert time.monotonic() < deadline_s, _text(trained / "job.log")
        time.sleep(0.1)
    (trained / "late").rename(weights)
    assert job.wait(1200) == 0, (trained / "job.log").read_text()
    assert (trained / wanted).exists()
