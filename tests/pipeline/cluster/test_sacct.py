"""The replacement of `sacct` under Snakemake's plugin: no endless wait and no forgotten job."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from gauntlet.pipeline.cluster.commands import REPLACEMENTS
from gauntlet.pipeline.cluster.job_states import ACTIVE_STATES
from gauntlet.pipeline.cluster.sacct import MISSES_FOLDER
from tests.support.slurm.plugin import PolledExecutor

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

RUN = "run-1"

FORGETFUL = """#!/bin/sh
exec {squeue} $(echo "$*" | sed 's/--states=all//')
"""
"""A queue that has forgotten what has ended, as it does after minutes (MinJobAge): then the accounts count."""


@pytest.fixture(params=["both", "queue", "accounts"])
def plugin(slurm, tmp_path, monkeypatch, request):
    """The plugin on the Snakefile's PATH; ended jobs are known to the queue, to accounting, or to both."""
    monkeypatch.chdir(tmp_path)
    places = [str(REPLACEMENTS), str(Path(sys.executable).parent), os.environ["PATH"]]
    if request.param == "queue":
        monkeypatch.setenv("SLURM_CONF", str(slurm.without_accounts))
    if request.param == "accounts":
        (tmp_path / "squeue").write_text(FORGETFUL.format(squeue=shutil.which("squeue")))
        (tmp_path / "squeue").chmod(0o755)
        places.insert(1, str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    # Accounts lag by seconds; where they alone know, looks are as far apart as they are in earnest.
    looking = PolledExecutor(RUN, pause_s=5 if request.param == "accounts" else 0.5)
    looking.queue_remembers = request.param != "accounts"
    yield looking
    slurm.run("scancel", f"--name={RUN}", check=False)


@pytest.fixture
def submit(slurm, plugin):
    """Submit a job that the plugin then follows."""

    def submitted(command, *options):
        asks = ["--parsable", f"--job-name={RUN}", "--output=%j.log", "--mem=10"]
        job = slurm.run("sbatch", *asks, *options, f"--wrap={command}")
        plugin.watch(job)
        return job

    return submitted


def state(slurm, job):
    return slurm.run("squeue", "--states=all", "--noheader", "--format=%T", f"--jobs={job}", check=False)


def reaches(slurm, job, *wanted):
    """Wait until a job has one of some states, and accounting, which lags, knows its end.

    The query is by name, as the plugin's is: states of a job by its number are known earlier.
    """

    def account():
        columns = ("--noheader", "--parsable2", "--format=JobIDRaw,State")
        return slurm.run("sacct", "--allocations", *columns, "--starttime=now-2days", f"--name={RUN},timed")

    def there():
        now = state(slurm, job)
        return now in wanted and (now in ACTIVE_STATES or f"\n{job}|{now}" in f"\n{account()}")

    deadline_s = time.monotonic() + 300
    while not there():
        assert time.monotonic() < deadline_s, (state(slurm, job), account())
        time.sleep(0.3)


@pytest.fixture(scope="module", autouse=True)
def timed(slurm, tmp_path_factory):
    """A job that reaches its time limit; SLURM counts in minutes, so the other tests run meanwhile."""
    out = tmp_path_factory.mktemp("timed") / "out"
    asks = ["--parsable", "--job-name=timed", "--partition=urgent", "--mem=10", "--time=1", f"--output={out}"]
    return slurm.run("sbatch", *asks, "--wrap=sleep 600")


def test_a_job_that_a_user_cancels_has_failed(slurm, plugin, submit):
    """Pending or running; accounting names the user in the state, which the plugin does not understand."""
    running, waiting = submit("sleep 600"), submit("sleep 600", "--begin=now+1hour")
    reaches(slurm, running, "RUNNING")
    assert plugin.poll() == {running: "waited for", waiting: "waited for"}
    slurm.run("scancel", running, waiting)
    reaches(slurm, running, "CANCELLED")
    plugin.poll()
    assert plugin.poll() == {running: "failed", waiting: "failed"}


def test_a_job_that_is_preempted_and_not_queued_again_has_failed(slurm, plugin, submit):
    """A partition of higher priority takes the node."""
    job = submit("sleep 600", "--cpus-per-task=4")
    reaches(slurm, job, "RUNNING")
    other = slurm.run(
        "sbatch",
        "--parsable",
        f"--job-name={RUN}",
        "--partition=urgent",
        "--cpus-per-task=4",
        "--mem=10",
        "--wrap=true",
    )
    reaches(slurm, job, "PREEMPTED")
    plugin.poll()
    assert plugin.poll() == {job: "failed"}
    reaches(slurm, other, "COMPLETED")


def test_a_job_that_is_queued_again_is_waited_for(slurm, plugin, submit):
    """It was requeued by an administrator, or by SLURM after preemption."""
    job = submit("sleep 600", "--requeue")
    reaches(slurm, job, "RUNNING")
    slurm.run("scontrol", "requeue", job)
    reaches(slurm, job, "PENDING", "RUNNING")
    assert plugin.poll() == {job: "waited for"}


def test_accounts_that_do_not_answer_lose_no_job(slurm, plugin, submit):
    """A job that ends meanwhile is reported by the queue, or afterwards."""
    job = submit("true")
    reaches(slurm, job, "COMPLETED")
    with slurm.without_answers("sacct"):
        found = plugin.poll()
    assert found == {job: "done" if plugin.queue_remembers else "waited for"}
    assert plugin.poll_until_ended(job) == "done"


@pytest.mark.parametrize("plugin", ["both"], indirect=True)
def test_a_cluster_that_does_not_answer_loses_no_job(slurm, plugin, submit):
    """Neither queue nor accounting answers."""
    job = submit("true")
    reaches(slurm, job, "COMPLETED")
    with slurm.without_answers("sacct", "squeue"):
        found = plugin.poll()
    assert found == {job: "waited for"}
    assert plugin.poll_until_ended(job) == "done"


def test_a_job_that_slurm_has_forgotten_has_failed_at_the_second_query(plugin):
    """It was seen once, and then the SLURM controller lost its state."""
    plugin.watch("4000000")
    MISSES_FOLDER.mkdir(parents=True)
    (MISSES_FOLDER / f"{RUN}.json").write_text(json.dumps({"4000000": 0}))
    assert plugin.poll() == {"4000000": "waited for"}
    assert plugin.poll() == {"4000000": "failed"}


def test_a_drained_node_or_a_dead_daemon_loses_no_job(slurm, plugin, submit):
    """Running jobs finish, and pending ones start when the node returns."""
    running = submit("while [ ! -e released ]; do sleep 0.2; done")
    reaches(slurm, running, "RUNNING")
    slurm.run("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
    waiting = submit("true")
    slurm.kill_node()
    assert plugin.poll() == {running: "waited for", waiting: "waited for"}
    Path("released").touch()
    # In this order: a job that starts on a node without its daemon fails.
    slurm.start_node()
    slurm.run("scontrol", "update", f"nodename={slurm.host}", "state=resume")
    assert [plugin.poll_until_ended(job) for job in (running, waiting)] == ["done", "done"]


def test_a_job_that_runs_out_of_time_has_failed(slurm, plugin, timed):
    """Another run's query asks for it by name."""
    plugin.run_uuid = "timed"
    plugin.watch(timed)
    assert plugin.poll_until_ended(timed, seconds=400) == "failed"
    reaches(slurm, timed, "TIMEOUT")
