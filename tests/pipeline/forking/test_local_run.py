"""`snakemake --profile local`: its cells are forks, with the bytes of separate processes, and nothing outlives it."""

from __future__ import annotations

import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir, suppress
from pathlib import Path

import psutil
import pytest

import gauntlet
from gauntlet.pipeline import paths
from tests.support.cells import make_cell
from tests.support.output_digests import differing, digests
from tests.support.stages import run_stages
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.workflow import TINY, link_workflow, planned_jobs, run_snakemake

pytestmark = pytest.mark.slow

SERVER = "gauntlet.pipeline.forking.server"

AT_THE_END = ("aggregate", "table", "report")
"""Stages that need all other cells."""

ATTACKS = """
import os, pathlib, time
from gauntlet.registry import ATTACKS
@ATTACKS.register("waiting", kind="bounded", norms=("linf",), access="scores", source="none")
def waiting(model, x, y, *, epsilon):
    pathlib.Path("process_id").write_text(f"{os.getpid()}\\n")
    while not pathlib.Path("released").exists():
        time.sleep(0.05)
    return x
"""


def local_run(folder, *arguments, **variables):
    """Start a local run as from a terminal: in a process group of its own, which is signaled as a whole."""
    command = [sys.executable, "-m", "snakemake", "--profile", "local", *arguments]
    environment = {**os.environ, **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (folder / "run.log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            preexec_fn=_reset_signals,
        )


def _reset_signals():
    """Undo what the tests inherit from a shell that runs them in the background, or from `nohup`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A finished run without forks: one cell of each stage as a process of its own, the others in one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_config(folder, {**TINY, "execution": {"preload": False}})
    link_workflow(folder)
    with chdir(folder):
        cells = list(staleness_in(folder).graph.cells())
    one_of_each = {cell.stage.name: str(cell.outputs[0]) for cell in cells if cell.stage.name not in AT_THE_END}
    assert SERVER not in run_snakemake(folder, "--verbose", *one_of_each.values()).stdout
    run_stages(folder)
    return folder


def test_killed_at_any_instant_it_ends_with_the_same_bytes(unbroken, tmp_path):
    """SIGKILL to Snakemake, or at last to the server, at random moments of a run whose cells are forks."""
    write_config(tmp_path, TINY)
    link_workflow(tmp_path)
    draw = random.Random(0)
    kills = int(os.environ.get("GAUNTLET_TEST_KILLS", "4"))
    # In cells that have begun, of 36: on a busy machine the same seconds would all fall before the first cell.
    instants = [*sorted(draw.choices(range(1, 30), k=kills - 1)), 32]
    for number, instant in enumerate(instants, start=1):
        run = local_run(tmp_path)
        while run.poll() is None and len(list(tmp_path.glob("logs/small/*.log"))) < instant:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 1))
        processes = children(run)
        if number == kills:
            for server in [process for process in processes if SERVER in command_of(process)][:1]:
                server.kill()
            assert run.wait(1200) == 0, (tmp_path / "run.log").read_text()
        else:
            run.kill()
            # It may have ended before.
            assert run.wait() in (0, -signal.SIGKILL), (tmp_path / "run.log").read_text()
        assert_all_end(processes)
    run_snakemake(tmp_path)
    assert planned_jobs(tmp_path) == {}
    assert differing(digests(tmp_path), digests(unbroken)) == []


def children(run):
    """List the processes that a run has started, and those that they have."""
    try:
        return psutil.Process(run.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_of(process):
    """Return the command line of a process; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def assert_all_end(processes):
    """Wait until all of some processes have ended."""
    _, alive = psutil.wait_procs(processes, timeout=1200)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A folder where the next run has one cell, which waits for a file."""
    folder = tmp_path_factory.mktemp("waiting")
    config = copy.deepcopy(TINY)
    experiment = config["experiments"]["small"]
    experiment["variants"] = {"softmax": experiment["variants"]["softmax"]}
    del experiment["certificates"]
    experiment["attacks"] = {"waiting": {"name": "my_attacks:waiting", "norm": "linf", "epsilons": [0.1]}}
    (folder / "my_attacks.py").write_text(ATTACKS)
    write_config(folder, config)
    link_workflow(folder)
    run_snakemake(folder, "models")
    return folder


# No terminal sends SIGKILL to all of its processes.
ENDINGS = [
    *((True, number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
    *((False, number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
]


@pytest.mark.parametrize(
    ("whole", "number"), ENDINGS, ids=lambda part: part.name if isinstance(part, signal.Signals) else f"all={part}"
)
def test_no_process_outlives_a_run(waiting, tmp_path, number, whole):
    """Whatever ends Snakemake: server, fork and command end, and the server's folder is removed."""
    for name in ("process_id", "released"):
        (waiting / name).unlink(missing_ok=True)
    cell = make_cell("evaluate", "small", "softmax", 0, "waiting")
    (waiting / paths.samples(cell)).unlink(missing_ok=True)
    run = local_run(waiting, str(paths.samples(cell)), TMPDIR=str(tmp_path))
    deadline_s = time.monotonic() + 1200
    while not (waiting / "process_id").exists() or not (waiting / "process_id").read_text():
        assert time.monotonic() < deadline_s
        assert run.poll() is None, (waiting / "run.log").read_text()
        time.sleep(0.05)
    processes = children(run)
    kinds = [command_of(process) for process in processes]
    assert sum(SERVER in kind for kind in kinds) == 2, kinds
    assert int((waiting / "process_id").read_text()) in [process.pid for process in processes]
    (os.killpg if whole else os.kill)(run.pid, number)
    if number in (signal.SIGTERM, signal.SIGINT) and not whole:
        # Snakemake then waits for the jobs that it has started.
        (waiting / "released").touch()
    try:
        run.wait(1200)
        assert_all_end(processes)
    finally:
        for process in [run, *processes]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        run.wait()
    assert list(tmp_path.glob("gauntlet-*")) == []


def test_an_edit_of_our_code_between_two_cells_is_run_and_fingerprinted(waiting, tmp_path):
    """The server no longer serves, and the next cell loads the code as it is now."""
    shutil.copytree(Path(gauntlet.__file__).parent, tmp_path / "gauntlet", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(waiting, folder := tmp_path / "run", symlinks=True)
    config = copy.deepcopy(TINY)
    experiment = config["experiments"]["small"]
    experiment["variants"] = {"softmax": experiment["variants"]["softmax"]}
    del experiment["certificates"]
    write_config(folder, config)
    job = f"""
import os, subprocess, sys
from pathlib import Path
from gauntlet.pipeline.forking import launch
assert Path(launch.__file__).is_relative_to({str(tmp_path)!r})
launch.start([1])
command = [sys.executable, "-m", "gauntlet", "evaluate", "--attack", "fgsm", "--threads", "1"]
def run():
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr
assert "up to date" not in run()
assert "up to date" in run()
file = Path({str(tmp_path)!r}, "gauntlet/robustness/attacks/pgd.py")
file.write_text(file.read_text() + "\\nimport sys\\nprint('the edited module', file=sys.stderr)\\n")
shown = run()
assert "the edited module" in shown and "up to date" not in shown, shown
assert "up to date" in run()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", job], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
