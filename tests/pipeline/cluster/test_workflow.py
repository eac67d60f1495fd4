"""Experiments on a real SLURM: the results of a disturbed run are those of an undisturbed one."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import time
from contextlib import chdir

import pytest

from tests.support.output_digests import digests
from tests.support.slurm.run import ProductionCounter, Run
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.workflow import ROOT, TINY, link_workflow
from tests.support.yaml_text import parse_yaml

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

DEFAULT = parse_yaml((ROOT / "config.yaml").read_text())

ON_MODELS = ("rule_train", "rule_cells", "rule_evaluate", "rule_certify", "rule_diagnose", "rule_inspect")
PROBES = ("evaluate", "certify", "diagnose", "inspect")

SHORT = {"execution": {"cluster": {"minutes": 5}}}
"""Everything takes five minutes at most, and so shares jobs."""

AGAIN = 2
"""So many cells may be made twice, one for each GPU; as a rule it is none."""

BROKEN = """
from gauntlet.registry import ATTACKS
@ATTACKS.register('broken', kind='bounded', norms=('linf',), access='scores', source='none')
def broken(model, x, y, *, epsilon):
    raise RuntimeError('always')
"""


def cells_in(folder):
    with chdir(folder):
        return list(staleness_in(folder).graph.cells())


def is_finished(folder):
    with chdir(folder):
        return not staleness_in(folder).unfinished()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of the default experiment, left by `make run` in this checkout or made here, slowly."""
    if is_finished(ROOT):
        return digests(ROOT)
    folder = tmp_path_factory.mktemp("local")
    write_config(folder, DEFAULT)
    link_workflow(folder)
    command = [sys.executable, "-m", "snakemake", "--profile", "local"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return digests(folder)


def test_a_disturbed_default_experiment_ends_with_the_same_bytes(slurm, undisturbed, tmp_path, record_property):
    """One run meets every disturbance below while its cells run.

    Jobs on models have a GPU, others none.
    """
    folder = tmp_path / "there"
    folder.mkdir()
    with (
        Run(folder, slurm, DEFAULT | SHORT, "--group-components", "trainings=6", "cells=12") as run,
        ProductionCounter(folder, cells_in(folder), tmp_path / "kept") as counter,
    ):
        run.start()
        kill_the_controller(run, counter)
        queue_again_and_cancel(run, counter)
        drain_the_node_and_kill_its_daemon(run, counter)
        run_out_of_time(run, counter)
        lose_the_node(run, counter)
        silence_accounts(run)
        assert run.wait() == 0, run.logs()

    assert digests(folder) == undisturbed
    twice = {str(cell): count for cell, count in counter.counts.items() if count > 1}
    record_property("cells made twice", f"{len(twice)} of {len(counter.counts)}")
    assert len(twice) <= AGAIN, twice
    accounts = run.accounts()
    assert {one.state for one in accounts} >= {"COMPLETED", "REQUEUED", "CANCELLED", "NODE_FAIL"}
    assert not [one for one in accounts if ("gres/gpu=1" in one.held) != one.kind.startswith(ON_MODELS)]


def kill_the_controller(run, counter):
    """Kill the controller; the second one's jobs start after those of the first."""
    run.wait_for(lambda: len(run.jobs("trainings", state="RUNNING")) == 2)
    run.wait_for(lambda: counter.made("train") >= 7)
    run.kill()
    outlived = {job.id for job in run.jobs("train", state="RUNNING")}
    run.start()
    for twin in run.wait_for(lambda: [job for job in run.jobs("train") if int(job.id) > max(map(int, outlived))]):
        waits_for = set(re.findall(r"\d+", twin.waits_for))
        assert outlived >= waits_for >= outlived & {job.id for job in run.jobs("train", state="RUNNING")}


def silence_accounts(run):
    """Stop accounting for a minute, as the last disturbance: a quick machine makes most cells meanwhile."""
    with run.slurm.without_answers("sacct"):
        time.sleep(60)


def at_work(run, counter, cells):
    """Wait until jobs on models hold both GPUs, and then until more cells are made; return the jobs."""
    found = run.wait_for(lambda: held if len(held := run.jobs("cells", state="RUNNING")) == 2 else None)
    before = counter.made(*PROBES)
    run.wait_for(lambda: counter.made(*PROBES) >= before + cells)
    return found


def queue_again_and_cancel(run, counter):
    """Requeue one job, which starts two minutes later, and cancel another, which is tried again."""
    first, second = at_work(run, counter, 2)
    run.slurm.run("scontrol", "requeue", first.id)
    run.slurm.run("scancel", second.id)


def drain_the_node_and_kill_its_daemon(run, counter):
    """Drain the node: running jobs go on to their next cells, and none starts until it is resumed."""
    before = {job.id for job in at_work(run, counter, 1)}
    run.slurm.run("scontrol", "update", f"nodename={run.slurm.host}", "state=drain", "reason=test")
    run.slurm.kill_node()
    time.sleep(5)
    run.slurm.start_node()
    made_before = counter.made(*PROBES)
    run.wait_for(lambda: counter.made(*PROBES) >= made_before + 2)
    assert {job.id for job in run.jobs("cells", state="RUNNING")} <= before
    run.slurm.run("scontrol", "update", f"nodename={run.slurm.host}", "state=resume")


def run_out_of_time(run, counter):
    """Cut a job's time to what it has used; the next attempt requests twice the first one's."""
    job, _ = at_work(run, counter, 1)
    run.slurm.run("scontrol", "update", f"jobid={job.id}", "timelimit=1")
    run.wait_for(lambda: job.id in {one.id for one in run.jobs("cells", state="TIMEOUT")})
    run.wait_for(lambda: run.jobs("cells")[-1].minutes == 2 * job.minutes)


def lose_the_node(run, counter):
    """Let the node's power fail and return; SLURM requeues its jobs for two minutes later."""
    lost = at_work(run, counter, 3)
    run.slurm.kill_node(with_jobs=True)
    # A node may be that late to report a batch job: BatchStartTimeout, and ten seconds for the message.
    time.sleep(12)
    run.slurm.start_node(rebooted=True)
    for job in lost:
        run.wait_for(lambda job=job: job.id in {one.id for one in run.jobs("cells", state="PENDING")})
        # Not at once: a node refuses a job whose last run was ended in the same second.
        run.slurm.run("scontrol", "update", f"jobid={job.id}", "starttime=now+10seconds")


def test_a_job_that_always_fails_is_retried_and_named(slurm, tmp_path, monkeypatch):
    """Each attempt has twice the time, and all other cells finish. This cluster has no accounting."""
    monkeypatch.setenv("SLURM_CONF", str(slurm.without_accounts))
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "my_attacks.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(folder)
    fgsm = {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}
    config = copy.deepcopy(TINY) | SHORT
    config["experiments"]["small"] |= {
        "variants": {"softmax": {"model": "cnn"}},
        # The first to be run: the others show that a job goes on.
        "attacks": {"broken": {**fgsm, "name": "my_attacks:broken"}, "fgsm": fgsm},
        "certificates": {},
    }
    with Run(folder, slurm, config) as run, ProductionCounter(folder, cells_in(folder), tmp_path / "kept") as counter:
        run.start()
        assert run.wait() == 1, run.logs()
    limits = [job.minutes for job in run.jobs("cells")]
    retries = parse_yaml((ROOT / "profiles/slurm/config.yaml").read_text())["retries"]
    assert limits == [limits[0] * 2**attempt for attempt in range(retries + 1)]
    unmade = {(cell.stage.name, cell.name) for cell, count in counter.counts.items() if not count}
    assert unmade == {("evaluate", "broken"), ("aggregate", "")}
    assert max(counter.counts.values()) == 1, "what was finished in a job that failed is not done again"
    status = subprocess.run([sys.executable, "-m", "gauntlet", "status"], cwd=folder, capture_output=True, text=True)
    assert "raised RuntimeError: always" in status.stdout


def test_a_folder_whose_name_a_shell_would_expand(slurm, tmp_path):
    """Jobs are then submitted as scripts; options that the configuration passes on are accepted by `sbatch`."""
    folder = tmp_path / "my $HOME `id`"
    folder.mkdir()
    config = copy.deepcopy(TINY)
    config["experiments"]["small"] |= {
        "variants": {"softmax": {"model": "cnn"}},
        "attacks": {},
        "certificates": {},
        "diagnostics": {"enabled": False},
    }
    config["execution"] = {"cluster": {"minutes": 5, "sbatch": ["--nice=1", "--mail-type=NONE"]}}
    (folder / "queue.py").write_text("raise RuntimeError('not named by any configuration')")
    with Run(folder, slurm, config, "models") as run:
        run.start()
        assert run.wait() == 0, run.logs()
    assert len(list(folder.rglob("model.safetensors"))) == 1
    assert not (tmp_path / "my").exists()
