"""What makes Snakemake's plugin wait for ever, or forget its jobs, does not where our `sacct` stands before SLURM's."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from gauntlet.slurm.commands import STAND_INS
from gauntlet.slurm.sacct import MEMORY
from tests.slurm.plugin import Looking

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

RUN = "run-1"

ACCOUNTS = """#!/bin/sh
[ -e accounts.silent ] && {{ echo "sacct: error: Problem talking to the database: Connection refused" >&2; exit 1; }}
{squeue} --states=all --noheader --format='%i|%T' | sed 's/CANCELLED/CANCELLED by 1000/'
"""
"""SLURM's accounts, made of its queue: a cluster of one node keeps none."""

QUEUE = """#!/bin/sh
[ -e queue.silent ] && {{ echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }}
exec {squeue} "$@"
"""


@pytest.fixture
def plugin(slurm, tmp_path, monkeypatch):
    """The plugin, on a PATH as the Snakefile makes it; files in the working folder silence SLURM's commands."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sacct", ACCOUNTS), ("squeue", QUEUE)):
        (folder / name).write_text(text.format(squeue=shutil.which("squeue")))
        (folder / name).chmod(0o755)
    places = [str(STAND_INS), str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    yield Looking(RUN)
    slurm.ask("scancel", f"--name={RUN}", check=False)


@pytest.fixture
def submit(slurm, plugin):
    """Submit a job that the plugin then looks after."""

    def submitted(command, *options):
        asks = ["--parsable", f"--job-name={RUN}", "--output=%j.log", "--mem=10"]
        job = slurm.ask("sbatch", *asks, *options, f"--wrap={command}")
        plugin.watch(job)
        return job

    return submitted


def state(slurm, job):
    return slurm.ask("squeue", "--states=all", "--noheader", "--format=%T", f"--jobs={job}", check=False)


def reaches(slurm, job, *wanted):
    """Wait until a job is in one of some states."""
    deadline_s = time.monotonic() + 60
    while state(slurm, job) not in wanted and time.monotonic() < deadline_s:
        time.sleep(0.3)
    assert state(slurm, job) in wanted


def silence(*names):
    for name in names:
        Path(f"{name}.silent").touch()


def test_a_job_that_a_user_cancels_has_failed(slurm, plugin, submit):
    """Waiting or running; the accounts say who it was, which the plugin does not understand."""
    running, waiting = submit("sleep 600"), submit("sleep 600", "--begin=now+1hour")
    reaches(slurm, running, "RUNNING")
    assert plugin.look() == {running: "waited for", waiting: "waited for"}
    slurm.ask("scancel", running, waiting)
    reaches(slurm, running, "CANCELLED")
    assert plugin.look() == {running: "failed", waiting: "failed"}


def test_a_job_that_is_preempted_and_not_queued_again_has_failed(slurm, plugin, submit):
    """A partition of higher priority takes its place."""
    job = submit("sleep 600", "--cpus-per-task=4")
    reaches(slurm, job, "RUNNING")
    other = slurm.ask(
        "sbatch",
        "--parsable",
        f"--job-name={RUN}",
        "--partition=urgent",
        "--cpus-per-task=4",
        "--mem=10",
        "--wrap=true",
    )
    reaches(slurm, job, "PREEMPTED")
    plugin.look()
    assert plugin.look() == {job: "failed"}
    reaches(slurm, other, "COMPLETED")


def test_a_job_that_is_queued_again_is_waited_for(slurm, plugin, submit):
    """By an administrator, or by SLURM after preemption."""
    job = submit("sleep 600", "--requeue")
    reaches(slurm, job, "RUNNING")
    slurm.ask("scontrol", "requeue", job)
    reaches(slurm, job, "PENDING", "RUNNING")
    assert plugin.look() == {job: "waited for"}


@pytest.mark.parametrize("silent", [["accounts"], ["accounts", "queue"]])
def test_commands_that_do_not_answer_lose_no_job(slurm, plugin, submit, silent):
    """A job that ends while nobody answers is known to have ended afterwards, or through the other command."""
    job = submit("true")
    reaches(slurm, job, "COMPLETED")
    silence(*silent)
    found = plugin.look()
    assert found == {job: "waited for" if "queue" in silent else "done"}
    for name in silent:
        Path(f"{name}.silent").unlink()
    assert plugin.look() == {job: "done"}


def test_a_job_that_slurm_has_forgotten_has_failed_at_the_second_look(plugin):
    """It was seen once, and then the controller lost its state."""
    plugin.watch("4000000")
    MEMORY.mkdir(parents=True)
    (MEMORY / f"{RUN}.json").write_text(json.dumps({"4000000": 0}))
    assert plugin.look() == {"4000000": "waited for"}
    assert plugin.look() == {"4000000": "failed"}


def test_a_node_that_is_drained_or_whose_daemon_dies_costs_nothing(slurm, plugin, submit):
    """What runs goes on and is done, what waits starts when the node is back."""
    running = submit("sleep 5")
    reaches(slurm, running, "RUNNING")
    slurm.ask("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
    waiting = submit("true")
    slurm.kill_node()
    assert plugin.look() == {running: "waited for", waiting: "waited for"}
    slurm.ask("scontrol", "update", f"nodename={slurm.host}", "state=resume")
    slurm.start_node()
    assert [plugin.look_until(job) for job in (running, waiting)] == ["done", "done"]


def test_a_job_that_runs_out_of_time_has_failed(slurm, plugin, submit):
    """SLURM counts in minutes: this takes more than one."""
    job = submit("sleep 600", "--time=1")
    assert plugin.look_until(job, seconds=180) == "failed"
    assert state(slurm, job) == "TIMEOUT"
