"""Faults at any moment: a plain rerun ends with the results of an undisturbed run."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.output_digests import differing, digests, rounded_tables
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY, link_workflow, planned_jobs, run_snakemake

pytestmark = pytest.mark.slow

DRIVER = ROOT / "tests" / "support" / "fault_driver.py"
KILLS = 32


@pytest.fixture(scope="module")
def drive():
    """A function that runs every stage in a folder with a fault, and returns the finished process."""
    # A fork has none of the threads of its parent, so that the driver must have none: neither of torch nor of Arrow.
    without_threads = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    environment = {**os.environ, **without_threads}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, str(DRIVER)]

    def driven(folder, fault="none", event=0):
        driver.stdin.write(json.dumps([fault, event, str(folder)]) + "\n")
        driver.stdin.flush()
        code = int(driver.stdout.readline())
        stdout, stderr = ((folder / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([*command, fault, event], code, stdout, stderr)

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:
        yield driven
        driver.stdin.close()


@pytest.fixture(scope="module")
def unbroken(drive, tmp_path_factory):
    """An undisturbed run: its folder, its digests, its number of events."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_config(folder, TINY)
    done = drive(folder)
    assert done.returncode == 0, done.stderr
    return folder, digests(folder), int(done.stdout)


def test_killed_at_many_instants_it_ends_with_the_same_bytes(drive, unbroken, tmp_path):
    """SIGKILL at random moments of all stages, each followed by a plain rerun."""
    _, wanted, events = unbroken
    write_config(tmp_path, TINY)
    draw = random.Random(0)
    kills = 0
    for _ in range(8 * KILLS):
        done = drive(tmp_path, "kill", draw.randint(1, max(2, 2 * events // KILLS)) if kills < KILLS else 0)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        kills += 1
    assert kills >= 30
    assert differing(digests(tmp_path), wanted) == []


@pytest.mark.parametrize("fault", ["enospc", "oom"])
def test_a_full_disk_or_memory_needs_at_most_one_rerun(drive, unbroken, tmp_path, fault):
    """A full disk is one line and no torn file; out of memory in an attack needs no rerun and changes rounding only."""
    complete, wanted, events = unbroken
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_config(folder, TINY)
        done = drive(folder, fault, random.Random(number).randint(1, events))
        if fault == "oom":
            assert done.returncode == 0, done.stderr
        elif done.returncode:
            assert "the disk is full; free space and run again" in done.stderr
            assert "Traceback" not in done.stderr
            assert not list(folder.rglob("*.partial"))
            assert drive(folder).returncode == 0
        if fault == "oom":
            assert rounded_tables(folder) == rounded_tables(complete)
        else:
            assert differing(digests(folder), wanted) == []


@pytest.mark.parametrize(
    "pattern",
    [
        "*/test.safetensors",
        "models/*/*/model.safetensors",
        "evaluations/*/*/*/samples.parquet",
        "inspections/*/*/inspection.parquet",
    ],
)
def test_a_damaged_file_is_named_and_made_again_once_deleted(drive, unbroken, tmp_path, pattern):
    """A truncated file is refused by name, and after its deletion made again with the same content."""
    source, wanted, _ = unbroken
    shutil.copytree(source, tmp_path / "run")
    folder = tmp_path / "run"
    victim = next(iter(sorted([*folder.glob(f"data/{pattern}"), *folder.glob(f"results/small/{pattern}")])))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    for other in folder.glob("results/small/summary.parquet"):
        other.unlink()
    for other in folder.glob("results/small/evaluations/*/*/attack=fgsm/samples.parquet"):
        if other != victim:
            other.unlink()
    done = drive(folder)
    if done.returncode:
        assert str(victim.relative_to(folder)) in done.stderr
        assert "Traceback" not in done.stderr
        victim.unlink()
        done = drive(folder)
    assert done.returncode == 0, done.stderr
    assert differing(digests(folder), wanted) == []


def test_a_cell_that_always_fails_stops_only_its_dependents(unbroken, tmp_path):
    """The other cells finish, the exit code is 1, and the cell stays planned."""
    source, _, _ = unbroken
    shutil.copytree(source, tmp_path / "run")
    folder = tmp_path / "run"
    link_workflow(folder)
    (folder / "my_attacks.py").write_text(
        "from gauntlet.registry import ATTACKS\n"
        "@ATTACKS.register('broken', kind='bounded', norms=('linf',), access='scores', source='none')\n"
        "def broken(model, x, y, *, epsilon):\n    raise RuntimeError('always')\n"
    )
    config = copy.deepcopy(TINY)
    attacks = config["experiments"]["small"]["attacks"]
    attacks["broken"] = {"name": "my_attacks:broken", "norm": "linf", "epsilons": [0.1]}
    attacks["bim"] = {"name": "bim", "norm": "linf", "epsilons": [0.1], "steps": 2}
    write_config(folder, config)
    done = run_snakemake(folder, check=False)
    assert done.returncode == 1
    assert len(list(folder.glob("results/small/evaluations/*/*/attack=bim/samples.parquet"))) == 2
    log = (folder / "logs/small/evaluate.softmax.0.broken.log").read_text()
    assert log.strip().splitlines()[-1] == "gauntlet: broken: attack my_attacks:broken raised RuntimeError: always"
    assert planned_jobs(folder)["evaluate"] == 2
