"""The controller as a job of a real SLURM: queued again at its limit or when preempted, and it finishes; cancelled."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gauntlet import paths
from gauntlet.controller.record import last_submitted, progress_of
from tests.slurm.test_workflow import told, wait_for
from tests.workflow.pretend import write_config
from tests.workflow.test_snakemake import TINY, checkout

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


@pytest.fixture
def folder(slurm, tmp_path, monkeypatch):
    """A clone with trained models, and an attack on each that waits for the file `go`; nothing of it stays queued."""
    monkeypatch.chdir(tmp_path)
    checkout(tmp_path)
    (tmp_path / "slurm").symlink_to("profiles/slurm")
    (tmp_path / "begun").mkdir()
    (tmp_path / "my_attacks.py").write_text(WAITING)
    config = copy.deepcopy(TINY)
    attack = {"name": "my_attacks:waiting", "norm": "linf", "epsilons": [0.1]}
    config["experiments"]["small"] |= {"attacks": {"waiting": attack}, "certificates": {}}
    # GPUs would put cells into another partition than the controller's, which is as well: both are told.
    config["execution"] = {"cluster": {"minutes": 60, "group_minutes": 60, "controller_minutes": 3}}
    write_config(tmp_path, config)
    for stage in ("prepare", "train"):
        assert gauntlet(stage).returncode == 0
    yield tmp_path
    slurm.ask("scancel", "--user=root", check=False)


def gauntlet(*arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-m", "gauntlet", *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


def submit(*arguments):
    """Submit a controller that looks at the queue often; give its job."""
    quick = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", *arguments]
    done = gauntlet("submit", *quick)
    assert done.returncode == 0, done.stderr
    return last_submitted().job


def starts_now(slurm, job, count, folder):
    """Wait for a start of the controller; a job that was queued again is held back for two minutes by SLURM."""

    def started():
        if slurm.ask("squeue", "--noheader", f"--jobs={job}", "--format=%T %r", check=False) == "PENDING BeginTime":
            slurm.ask("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)
        return len(progress_of(job).starts) >= count

    wait_for(started, folder, seconds=300)


def finishes(job, folder):
    """Wait for the controller's last word."""
    end = wait_for(lambda: progress_of(job).end, folder, seconds=300)
    assert end.endswith("Snakemake's exit code 0"), told(folder)
    assert all(path.exists() for path in (paths.report("small"), paths.summary("small")))


def test_a_controller_queues_itself_again_before_its_limit_waits_for_its_jobs_and_finishes(slurm, folder):
    """Its job's limit is real, three minutes; the cells' job outlives it, and is made once."""
    job = submit()
    wait_for(lambda: list(folder.glob("begun/*")), folder, seconds=120)
    status = gauntlet("submit", "--status").stdout
    assert f"job {job}, RUNNING" in status
    assert "started 1 times" in status
    assert gauntlet("submit").returncode == 1, "one controller at a time"

    starts_now(slurm, job, 2, folder)
    log = folder / paths.CONTROLLER / f"{job}_0_log.out"
    wait_for(lambda: "waiting for 1 jobs that outlived the last start" in log.read_text(), folder, seconds=60)
    Path("go").touch()
    finishes(job, folder)
    assert len(progress_of(job).starts) == 2
    # One process for each of two models, whoever waited for them.
    assert len(list(folder.glob("begun/*"))) == 2, "nothing was computed twice"
    assert "ended" in gauntlet("submit", "--status").stdout


@pytest.mark.parametrize("grace_s", [0, 40])
def test_a_controller_that_is_preempted_is_queued_again_and_finishes(slurm, folder, grace_s):
    """A partition of higher priority takes the whole node: with SIGTERM, or with a shorter limit."""
    slurm.ask("scontrol", "update", "PartitionName=cpu", f"GraceTime={grace_s}")
    try:
        job = submit()
        wait_for(lambda: list(folder.glob("begun/*")), folder, seconds=120)
        whole = ["--partition=urgent", f"--cpus-per-task={slurm.ask('sinfo', '-h', '-o', '%c', '-p', 'urgent')}"]
        slurm.ask("sbatch", *whole, "--mem=10", "--output=/dev/null", "--wrap=true")
        wait_for(lambda: progress_of(job).end.endswith("queued again"), folder, seconds=90)
        Path("go").touch()
        starts_now(slurm, job, 2, folder)
        finishes(job, folder)
    finally:
        slurm.ask("scontrol", "update", "PartitionName=cpu", "GraceTime=0")


def test_cancelling_ends_the_controller_and_the_jobs_of_its_cells(slurm, folder):
    """Nothing is queued again."""
    job = submit()
    wait_for(lambda: list(folder.glob("begun/*")), folder, seconds=120)
    done = gauntlet("submit", "--cancel")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cancelled: {job}, ")
    wait_for(lambda: not slurm.ask("squeue", "--noheader"), folder, seconds=60)
    assert f"job {job}, ended" in gauntlet("submit", "--status").stdout
    assert gauntlet("submit", "--cancel").stdout == "cancelled: nothing, no job was there\n"


def test_a_partition_that_is_not_there_is_told_in_one_line(slurm, folder):
    """By SLURM, through submitit."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["execution"]["cluster"]["controller_partition"] = "none"
    write_config(folder, config)
    done = gauntlet("submit")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "invalid partition" in done.stderr
