"""Experiments on a real SLURM: the results of a disturbed run are those of an undisturbed one."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir

import pytest

from tests.support.output_digests import differing, digests
from tests.support.slurm.run import ProductionCounter, Run
from tests.support.stages import run_stages
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.workflow import ROOT, TINY, link_workflow, run_snakemake
from tests.support.yaml_text import parse_yaml

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

DEFAULT = parse_yaml((ROOT / "config.yaml").read_text())

SHORT = {"execution": {"cluster": {"minutes": 5}}}
"""Everything takes five minutes at most, and so shares jobs."""

ON_MODELS = ("rule_train", "rule_cells", "rule_evaluate", "rule_certify", "rule_diagnose", "rule_inspect")
PROBES = ("evaluate", "certify", "diagnose", "inspect")

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


def smaller(config):
    """Return an experiment with a third of the models of the default one, and all of its attacks and certificates."""
    config = copy.deepcopy(config)
    digits = config["experiments"]["digits"]
    digits["seeds"] = digits["seeds"][:2]
    digits["variants"] = {name: digits["variants"][name] for name in ("softmax", "lipschitz")}
    return config


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The future files of a local run, which goes on meanwhile.

    Cells that `make run` left in this checkout are copied; otherwise they are made, slowly.
    """
    folder = tmp_path_factory.mktemp("local")
    write_config(folder, smaller(DEFAULT))
    link_workflow(folder)
    for path in (path for cell in cells_in(folder) for path in cell.outputs if (ROOT / path).is_file()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)

    def run():
        run_snakemake(folder, timeout_s=3600)
        return digests(folder)

    with ThreadPoolExecutor() as pool:
        yield pool.submit(run)


def test_a_disturbed_experiment_ends_with_the_same_bytes(slurm, undisturbed, tmp_path, record_property):
    """One run meets every disturbance below while its cells run.

    Jobs on models have a GPU, others none.
    """
    folder = tmp_path / "there"
    folder.mkdir()
    config = smaller(DEFAULT) | SHORT
    with (
        Run(folder, slurm, config, "--group-components", "trainings=2", "cells=6") as run,
        ProductionCounter(folder, cells_in(folder), tmp_path / "kept") as counter,
    ):
        run.start()
        kill_the_controller(run, counter)
        known = queue_again_and_cancel(run, counter)
        drain_the_node_and_kill_its_daemon(run, counter, known)
        run_out_of_time(run)
        lose_the_node(run)
        silence_accounts(run)
        assert run.wait() == 0, run.logs()

    assert differing(digests(folder), undisturbed.result()) == []
    twice = {str(cell): count for cell, count in counter.counts.items() if count > 1}
    record_property("cells made twice", f"{len(twice)} of {len(counter.counts)}")
    assert len(twice) <= AGAIN, twice
    accounts = run.accounts()
    assert {one.state for one in accounts} >= {"COMPLETED", "REQUEUED", "CANCELLED", "NODE_FAIL"}
    assert not [one for one in accounts if ("gres/gpu=1" in one.held) != one.kind.startswith(ON_MODELS)]


def kill_the_controller(run, counter):
    """Kill the controller; the second one's jobs start after those of the first."""
    first, *others = frozen(run, "trainings", at_least=2)
    run.slurm.thaw(first)
    run.wait_for(lambda: counter.made("train") >= 1)
    # Otherwise they might end before the second controller submits jobs.
    outlived = {*others, *run.slurm.freeze(first)}
    run.kill()
    run.start()
    for twin in run.wait_for(lambda: [job for job in run.jobs("train") if int(job.id) > max(map(int, outlived))]):
        assert set(re.findall(r"\d+", twin.waits_for)) == outlived
    run.slurm.thaw(*outlived)


def frozen(run, kind, at_least=1, known=()):
    """Freeze the running jobs of a kind but for known ones, and wait for as many as are needed; return them by ids.

    So a disturbance meets jobs that run, however quickly the machine makes cells.
    """

    def freeze():
        running = {job.id: job for job in run.jobs(kind, state="RUNNING") if job.id not in known}
        held = {number: running[number] for number in run.slurm.freeze(*running)} if running else {}
        return held if len(held) >= at_least else None

    return run.wait_for(freeze)


def tried_again(run, job, newest):
    """Wait until a job with twice the time of a failed one is submitted, after the newest one of before."""
    run.wait_for(lambda: [one for one in run.jobs("cells") if int(one.id) > newest and one.minutes == 2 * job.minutes])


def newest_job(run):
    """Return the number of the job that was submitted last."""
    return max(int(job.id) for job in run.jobs(""))


def queue_again_and_cancel(run, counter):
    """Requeue one job, which starts two minutes later, and cancel another, which is tried again; return their ids."""
    run.wait_for(lambda: counter.made(*PROBES) >= 2)
    newest = newest_job(run)
    first, second = list(frozen(run, "cells", at_least=2).values())[:2]
    run.slurm.run("scontrol", "requeue", first.id)
    run.slurm.run("scancel", second.id)
    tried_again(run, second, newest)
    return {first.id, second.id}


def drain_the_node_and_kill_its_daemon(run, counter, known):
    """Drain the node: running jobs go on to their next cells, and none starts until it is resumed.

    One of them, at least, is none of the known jobs, and has all of its cells before it.
    """
    new = frozen(run, "cells", known=known)
    run.slurm.run("scontrol", "update", f"nodename={run.slurm.host}", "state=drain", "reason=test")
    before = {job.id for job in run.jobs("cells", state="RUNNING")}
    assert run.jobs("cells", state="PENDING"), "there is a job that could start"
    run.slurm.kill_node()
    made_before = counter.made(*PROBES)
    run.slurm.thaw(*new)
    time.sleep(5)
    run.slurm.start_node()
    run.wait_for(lambda: counter.made(*PROBES) >= made_before + 2)
    assert {job.id for job in run.jobs("cells", state="RUNNING")} <= before
    run.slurm.run("scontrol", "update", f"nodename={run.slurm.host}", "state=resume")


def run_out_of_time(run):
    """Cut a job's time to a minute; the next attempt requests twice the first one's."""
    newest = newest_job(run)
    job, *others = frozen(run, "cells").values()
    run.slurm.thaw(*(other.id for other in others))
    run.slurm.run("scontrol", "update", f"jobid={job.id}", "timelimit=1")
    run.wait_for(lambda: job.id in {one.id for one in run.jobs("cells", state="TIMEOUT")})
    tried_again(run, job, newest)


def lose_the_node(run):
    """Let the node's power fail and return; SLURM requeues its jobs for two minutes later."""
    # At least that of the next attempt after the one before.
    frozen(run, "cells")
    run.slurm.kill_node(with_jobs=True)
    lost = run.jobs("cells", state="RUNNING")
    # A node may be that late to report a batch job: BatchStartTimeout, and ten seconds for the message.
    time.sleep(12)
    run.slurm.start_node(rebooted=True)
    for job in lost:
        run.wait_for(lambda job=job: job.id in {one.id for one in run.jobs("cells", state="PENDING")})
        # Not at once: a node refuses a job whose last run was ended in the same second.
        run.slurm.run("scontrol", "update", f"jobid={job.id}", "starttime=now+10seconds")


def silence_accounts(run):
    """Stop accounting until a job has ended, and for some of the controller's polls after that."""
    running = frozen(run, "cells")
    with run.slurm.without_answers("sacct"):
        ended = len(run.jobs("cells", state="COMPLETED"))
        run.slurm.thaw(*running)
        run.wait_for(lambda: len(run.jobs("cells", state="COMPLETED")) > ended)
        time.sleep(15)


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
        run_stages(folder, "prepare", "train")
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
