"""The controller as a job of a real SLURM: requeued at its limit or when preempted, finished, canceled."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster.controller.record import last_submission, read_record
from gauntlet.pipeline.cluster.partitions import parse_minutes
from tests.support.slurm.run import collect_logs, wait_for
from tests.support.stages import run_stages
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY, link_workflow
from tests.support.yaml_text import parse_yaml

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

WAITING = """
import os, pathlib, time
from gauntlet.registry import ATTACKS
@ATTACKS.register('waiting', kind='bounded', norms=('linf',), access='scores', source='none')
def waiting(model, x, y, *, epsilon):
    pathlib.Path('begun', str(os.getpid())).touch()
    while not pathlib.Path('go').exists():
        time.sleep(0.5)
    return x
"""


def configured(controller_minutes):
    """Return a configuration with an attack that waits for the file `go`."""
    config = copy.deepcopy(TINY)
    attack = {"name": "my_attacks:waiting", "norm": "linf", "epsilons": [0.1]}
    config["experiments"]["small"] |= {"attacks": {"waiting": attack}, "certificates": {}}
    config["execution"] = {"cluster": {"minutes": 60, "group_minutes": 60, "controller_minutes": controller_minutes}}
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and trained models."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "my_attacks.py").write_text(WAITING)
    write_config(folder, configured(controller_minutes=60))
    run_stages(folder, "prepare", "train")
    return folder


@pytest.fixture(params=[60], ids=[""])
def folder(request, slurm, trained, tmp_path, monkeypatch):
    """A clone with trained models and a blocking attack on each; no job stays queued."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    link_workflow(tmp_path)
    (tmp_path / "slurm").symlink_to("profiles/slurm")
    (tmp_path / "begun").mkdir()
    write_config(tmp_path, configured(controller_minutes=request.param))
    yield tmp_path
    slurm.run("scancel", "--user=root", check=False)


def gauntlet(*arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-m", "gauntlet", *arguments], capture_output=True, text=True, env=environment, timeout=1200
    )


def submit(*options):
    """Submit a controller that polls the queue often; return its job."""
    quick = [*options, "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    done = gauntlet("submit", *quick, str(paths.summary("small")))
    assert done.returncode == 0, done.stderr
    return last_submission().job


def nudge(slurm, job):
    """Let a requeued controller start at once, since SLURM delays it for two minutes.

    Not within the second of its requeueing, when the node refuses its credential.
    """
    if slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%T %r", check=False) == "PENDING BeginTime":
        time.sleep(3)
        slurm.run("scontrol", "update", f"jobid={job}", "StartTime=now", "TimeLimit=60", check=False)


def finishes(slurm, job, folder):
    """Wait until the controller has finished, over as many starts as it takes; check that all files exist."""

    def over():
        nudge(slurm, job)
        return "exit code" in (end := read_record(job).end) and end

    try:
        end = wait_for(over, folder)
    except AssertionError as error:
        raise AssertionError(slurm.run("scontrol", "show", "job", job, check=False)) from error
    assert end.endswith("Snakemake's exit code 0"), collect_logs(folder)
    assert paths.summary("small").exists()


@pytest.mark.parametrize("folder", [30], indirect=True)
def test_a_controller_requeues_itself_before_its_limit_and_finishes(slurm, folder):
    """Its limit is cut to two minutes from now; the cells' job outlives it, and each cell is made once."""
    job = submit()
    wait_for(lambda: list(folder.glob("begun/*")), folder)
    status = gauntlet("submit", "--status").stdout
    assert f"job {job}, RUNNING" in status
    assert "started 1 times" in status
    assert gauntlet("submit").returncode == 1, "one controller at a time"
    minutes = parse_minutes(slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%M"))
    slurm.run("scontrol", "update", f"jobid={job}", f"TimeLimit={minutes + 2}")

    def waits():
        nudge(slurm, job)
        return "waiting for 1 jobs of an earlier start" in last_submission().log.read_text()

    wait_for(waits, folder)
    Path("go").touch()
    finishes(slurm, job, folder)
    assert len(read_record(job).starts) >= 2
    # One process for each of two models.
    assert len(list(folder.glob("begun/*"))) == 2, "nothing was computed twice"
    # The record ends before SLURM's job does.
    wait_for(lambda: "ended" in gauntlet("submit", "--status").stdout, folder)


def test_a_controller_that_is_preempted_is_queued_again_and_finishes(slurm, folder):
    """A partition of higher priority takes the whole node."""
    job = submit()
    wait_for(lambda: list(folder.glob("begun/*")), folder)
    whole = ["--partition=urgent", f"--cpus-per-task={slurm.run('sinfo', '-h', '-o', '%c', '-p', 'urgent')}"]
    slurm.run("sbatch", *whole, "--mem=10", "--output=/dev/null", "--wrap=true")
    wait_for(lambda: read_record(job).end.endswith("requeued"), folder)
    Path("go").touch()
    finishes(slurm, job, folder)
    assert len(read_record(job).starts) >= 2


def test_a_frozen_run_is_not_reached_by_edits_that_follow_its_submission(slurm, folder):
    """Code and configuration are broken before the controller plans; its jobs use the copy all the same."""
    job = submit("--freeze")
    edited = {name: Path(name).read_text() for name in ("my_attacks.py", "config.yaml")}
    for name in edited:
        Path(name).write_text("raise RuntimeError('being edited')\n")
    Path("go").touch()
    finishes(slurm, job, folder)
    assert last_submission().code in gauntlet("submit", "--status").stdout
    for name, text in edited.items():
        Path(name).write_text(text)
    planned = gauntlet("run", "-n", str(paths.summary("small")))
    assert "evaluate" not in planned.stdout + planned.stderr


def test_canceling_ends_the_controller_and_the_jobs_of_its_cells(slurm, folder):
    """No job is queued again."""
    job = submit()
    wait_for(lambda: list(folder.glob("begun/*")), folder)
    done = gauntlet("submit", "--cancel")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cancelled: {job}, ")
    wait_for(lambda: not slurm.run("squeue", "--noheader"), folder)
    assert f"job {job}, ended" in gauntlet("submit", "--status").stdout
    assert gauntlet("submit", "--cancel").stdout == "cancelled: nothing, there was no job\n"


def test_an_unknown_partition_is_reported_in_one_line(slurm, folder):
    """The message is SLURM's, passed on by submitit."""
    config = parse_yaml((folder / "config.yaml").read_text())
    config["execution"]["cluster"]["controller_partition"] = "none"
    write_config(folder, config)
    done = gauntlet("submit")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Invalid partition" in done.stderr
