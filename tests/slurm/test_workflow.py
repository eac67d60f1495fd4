"""An experiment through a real SLURM, disturbed wherever it can be, ends with what an undisturbed one makes."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import time

import pytest

from gauntlet import paths
from gauntlet.config import Cell
from tests.faults.test_faults import digests, drive
from tests.workflow.pretend import write_config
from tests.workflow.test_snakemake import TINY, checkout

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

BROKEN = """
from gauntlet.registry import ATTACKS
@ATTACKS.register('broken', kind='bounded', norms=('linf',), access='scores', source='none')
def broken(model, x, y, *, epsilon):
    raise RuntimeError('always')
"""

RETRIES = 1


def controller(folder):
    """Start Snakemake as a user does, looking at the queue often."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm"]
    quick = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", "--retries", str(RETRIES)]
    quick += ["--group-components", "trainings=8", "cells=20"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "controller.log").open("a") as log:
        return subprocess.Popen([*command, *quick], cwd=folder, env=environment, stdout=log, stderr=log)


def told(folder):
    """Everything that may say why a run is not as it should be."""
    logs = [
        *folder.glob("*.log"),
        *folder.glob("logs/controller/*.out"),
        *folder.glob("logs/**/*.log"),
        *folder.glob(".snakemake/slurm_logs/**/*.log"),
    ]
    return "\n".join(f"== {log.relative_to(folder)}\n{log.read_text()[-3000:]}" for log in logs)


def jobs(slurm, rule):
    """List the jobs of a rule or a group that SLURM remembers: id, state, what they ask for."""
    lines = slurm.ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%k|%T").splitlines()
    found = (line.split("|") for line in lines)
    return [(job, state) for job, comment, state in found if comment.startswith(f"rule_{rule}")]


def wait_for(what, folder, seconds=900):
    """Wait until something is there; give it."""
    deadline_s = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline_s, told(folder)
        time.sleep(0.5)
    return found


def gpus(slurm, job):
    """Say how many GPUs a job was given; it is not started with fewer than it asks for."""
    held = re.search(r"TresPerJob=gres[:/]gpu[:=](\d+)", slurm.ask("scontrol", "show", "job", job))
    return int(held.group(1)) if held else 0


def test_a_run_that_everything_happens_to_ends_with_the_bytes_of_one_on_this_machine(slurm, tmp_path):
    """The controller is killed and followed beside its running job, a job is cancelled, one attack always fails."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    write_config(here, TINY)
    assert drive(here).returncode == 0

    checkout(there)
    (there / "slurm").symlink_to("profiles/slurm")
    (there / "my_attacks.py").write_text(BROKEN)
    config = copy.deepcopy(TINY)
    config["execution"] = {"cluster": {"minutes": 60, "group_minutes": 60}}
    write_config(there, config)
    sick = copy.deepcopy(config)
    attack = {"name": "my_attacks:broken", "norm": "linf", "epsilons": [0.1]}
    sick["experiments"]["small"]["attacks"]["broken"] = attack
    write_config(there, sick)

    first = controller(there)
    ((orphan, _),) = wait_for(lambda: [job for job in jobs(slurm, "trainings") if job[1] == "RUNNING"], there)
    first.kill()
    first.wait()
    second = controller(there)
    assert wait_for(lambda: len(jobs(slurm, "trainings")) == 2, there)
    twin = jobs(slurm, "trainings")[1][0]
    waits = slurm.ask("squeue", "--noheader", "--states=all", f"--jobs={twin}", "--format=%E")
    assert waits.startswith(f"afterany:{orphan}") or dict(jobs(slurm, "trainings"))[orphan] == "COMPLETED"
    models = [there / paths.model_weights(Cell("train", "small", one, 0)) for one in ("softmax", "lipschitz")]
    wait_for(lambda: dict(jobs(slurm, "trainings"))[orphan] == "COMPLETED", there)
    made = [model.stat().st_ino for model in models]

    ((cancelled, _),) = wait_for(lambda: [job for job in jobs(slurm, "cells") if job[1] == "RUNNING"], there)
    slurm.ask("scancel", cancelled)
    assert second.wait(1800) == 1, told(there)
    assert [model.stat().st_ino for model in models] == made, "no model was trained twice"
    tried = len(jobs(slurm, "cells"))
    assert tried == RETRIES + 1
    status = subprocess.run([sys.executable, "-m", "gauntlet", "status"], cwd=there, capture_output=True, text=True)
    assert "raised RuntimeError: always" in status.stdout

    for rule, held in (("prepare", 0), ("trainings", 1), ("cells", 1)):
        assert {gpus(slurm, job) for job, _ in jobs(slurm, rule)} == {held}

    write_config(there, config)
    assert controller(there).wait(1800) == 0, told(there)
    assert len(jobs(slurm, "cells")) == tried, "what was finished in a job that failed is not done again"
    assert {gpus(slurm, job) for job, _ in jobs(slurm, "aggregate")} == {0}
    wanted, found = digests(here), digests(there)
    assert {name: found.get(name) for name in wanted} == wanted
