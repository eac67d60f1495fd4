"""Snakemake with our rules, on an experiment of seconds."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import gauntlet
from gauntlet.core.parquet import read_table
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.stored_images import load_split
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.train.declaration import model_of
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, staleness_in, write_config
from tests.support.workflow import TINY, link_workflow, planned_jobs, run_snakemake


@pytest.fixture
def folder(stub_folder):
    """A clone with a finished run of stub files."""
    link_workflow(stub_folder)
    return stub_folder


def test_nothing_is_planned_over_a_finished_run(folder):
    """This holds without Snakemake's records and with time stamps out of order."""
    assert planned_jobs(folder) == {}


def test_an_edit_is_planned_exactly(folder):
    """Snakemake's jobs are the stale cells."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["attacks"]["pgd"]["steps"] = 4
    write_config(folder, config)
    assert planned_jobs(folder) == {"evaluate": 6, "aggregate": 1, "figure": 11, "table": 1, "page": 1}
    assert planned_jobs(folder, str(paths.samples(make_cell("evaluate", "small", "ecc", 1, "pgd")))) == {"evaluate": 1}
    config["experiments"]["small"]["variants"]["ecc"]["training"] = {"epochs": 2}
    write_config(folder, config)
    assert planned_jobs(folder) == {
        "train": 2,
        "evaluate": 8 + 4,
        "diagnose": 2,
        "inspect": 1,
        "aggregate": 1,
        "figure": 19,
        "table": 1,
        "page": 1,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-n"], id="dry run"),
        pytest.param(["-n", "--jobs", "2"], id="dry run with jobs"),
        pytest.param(["--jobs", "2"], id="real run", marks=pytest.mark.slow),
    ],
)
def test_a_local_run_asks_nothing_of_slurm(folder, tmp_path_factory, monkeypatch, arguments):
    """If SLURM hangs, each question would take its time limit; a dry run for the cluster does ask.

    The plugin for SLURM itself calls `scontrol` as Snakemake imports it, for at most 10 seconds.
    """
    commands = tmp_path_factory.mktemp("commands")
    for name in ("sinfo", "squeue", "sacct", "sbatch"):
        (commands / name).write_text(f"#!/bin/sh\ntouch {commands}/asked\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    paths.samples(make_cell("evaluate", "small", "ecc", 1, "pgd")).unlink()
    # Stub files are not the input of a real cell; it fails.
    run_snakemake(folder, *arguments, check="-n" in arguments)
    assert not (commands / "asked").exists()
    if "-n" in arguments:
        cluster = ["--executor", "slurm", *arguments, *([] if "--jobs" in arguments else ["--jobs", "2"])]
        run_snakemake(folder, *cluster)
        assert (commands / "asked").exists()
        (commands / "sinfo").write_text("#!/bin/sh\nexit 1\n")
        refused = run_snakemake(folder, *cluster, check=False)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1] == "gauntlet: sinfo: SLURM does not answer; try again when it does"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--summary", r"^results/small/report\.html\t.*\tno update$"),
        ("--dag", r'label = "aggregate'),
        ("--report", r"^Report created\.$"),
    ],
)
def test_snakemake_only_looks(folder, option, shown):
    """Of a run, these options have no settings that our rules could ask for; they start nothing."""
    arguments = [option, "report.html"] if option == "--report" else [option]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("results/**/*")}
    done = run_snakemake(folder, *arguments, is_fork=True)
    assert re.search(shown, done.stdout + done.stderr, flags=re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("results/**/*")} == before


def test_a_deleted_file_is_planned_though_its_dependents_exist(folder):
    """Every file of every cell is a target."""
    paths.examples(make_cell("evaluate", "small", "ecc", 1, "pgd")).unlink()
    assert planned_jobs(folder)["evaluate"] == 1


def test_quick_plans_the_quick_form_only_and_all_the_full_form_only(tmp_path, monkeypatch):
    """Each target has the cells and data of its form only."""
    monkeypatch.chdir(tmp_path)
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["quick"] = {
        "seeds": [0],
        "dataset": {"limit": {"train": 200, "test": 50}},
        "variants": {"ecc": None},
    }
    write_config(tmp_path, config)
    link_workflow(tmp_path)
    made = {"prepare": 1, "aggregate": 1, "figure": 19, "table": 1, "page": 1}
    assert planned_jobs(tmp_path, "quick") == {
        **made,
        "train": 2,
        "evaluate": 8,
        "certify": 1,
        "diagnose": 2,
        "inspect": 2,
    }
    assert planned_jobs(tmp_path) == {**made, "train": 6, "evaluate": 24, "certify": 2, "diagnose": 6, "inspect": 3}


def test_quick_without_a_quick_form_is_refused(tmp_path):
    """The error names the missing key."""
    write_config(tmp_path, CONFIG)
    link_workflow(tmp_path)
    done = run_snakemake(tmp_path, "-n", "quick", check=False)
    assert done.returncode == 2
    assert "config.yaml: no experiment has the key `quick`" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_no_cell_makes_is_refused_in_one_line(folder):
    """The target has a misspelt variant."""
    done = run_snakemake(folder, "-n", "results/small/models/variant=sofmax/seed=0/model.safetensors", check=False)
    assert done.returncode == 2
    assert "train small variant=sofmax seed=0: no cell of config.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["results", "logs", "data", "results/small/models"])
def test_a_file_in_place_of_a_folder_is_refused_in_one_line(tmp_path, path):
    """Snakemake lists the folders of all outputs, and would show a traceback; a dry run too."""
    link_workflow(tmp_path)
    write_config(tmp_path, CONFIG)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("")
    done = run_snakemake(tmp_path, "-n", check=False)
    assert done.returncode == 2
    assert f"{tmp_path / path}: this is a file, and a folder is needed here; rename it" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_slurm_no_job_is_submitted(folder, monkeypatch):
    """The error is printed once, not per job and attempt."""
    (folder / "bin").mkdir()
    for name in ("bash", "sh", "which"):
        (folder / "bin" / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder / "bin"))
    (folder / "slurm").symlink_to("profiles/slurm")
    done = run_snakemake(folder, "--profile", "slurm", "--forcerun", "page", check=False)
    assert done.returncode == 2
    assert "SLURM is not installed on this host" in done.stderr


def test_a_wrong_configuration_is_refused_in_one_line(folder):
    """Snakemake ends before any job with the configuration's error."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["attacks"]["pgd"]["stepz"] = 4
    write_config(folder, config)
    done = run_snakemake(folder, "-n", check=False)
    assert done.returncode == 2
    assert "attacks.pgd.stepz: unknown key; did you mean 'steps'" in done.stderr
    assert "Traceback" not in done.stderr


def rows_agree_with_the_notebook(variant, attack):
    """Check that `gauntlet.evaluate` on the stored model and split returns the pipeline's rows."""
    settings = TINY["experiments"]["small"]
    cell = make_cell("evaluate", "small", variant, 0, attack)
    split = load_split(next(Path("data").iterdir()), "test")
    images, labels = to_unit(split.images[:20]), split.labels[:20]
    torch.set_num_threads(1)
    rows = gauntlet.evaluate(
        gauntlet.load_model(paths.model_folder(model_of(cell))),
        images,
        labels,
        attack=settings["attacks"][attack],
        name=attack,
        experiment="small",
        variant=variant,
    )
    assert rows == read_table(paths.samples(cell))


def test_a_class_next_to_the_configuration_is_found_by_the_snakemake_command(folder):
    """Unlike `python -m`, the script does not put the working folder on the path."""
    (folder / "my_nets.py").write_text("import torch\nclass Mine(torch.nn.Module):\n    def __init__(self): ...\n")
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["variants"]["mine"] = {"model": "my_nets:Mine"}
    write_config(folder, config)
    script = Path(sys.executable).with_name("snakemake")
    done = subprocess.run(
        [script, "--profile", "local", "-n"], cwd=folder, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^train +2$", done.stdout + done.stderr, flags=re.MULTILINE)


@pytest.mark.slow
def test_one_command_makes_every_file_and_a_second_none(tmp_path, monkeypatch):
    """A failed rerun stays planned."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, TINY)
    link_workflow(tmp_path)
    run_snakemake(tmp_path)
    assert staleness_in(tmp_path).unfinished() == []
    assert pq.read_table("results/small/evaluations.parquet").num_rows == 2 * 3 * 20
    assert paths.report("small").stat().st_size > 10_000
    rows_agree_with_the_notebook("softmax", "pgd")
    rows_agree_with_the_notebook("lipschitz", "ddn")
    assert planned_jobs(tmp_path) == {}
    shutil.rmtree(tmp_path / ".snakemake")
    assert planned_jobs(tmp_path) == {}

    config = copy.deepcopy(TINY)
    config["experiments"]["small"]["attacks"]["pgd"]["step_size"] = 1e-3
    config["experiments"]["small"]["attacks"]["ddn"] = {"name": "foolbox:DDNAttack", "steps": 4}
    write_config(tmp_path, config)
    paths.model_weights(make_cell("train", "small", "softmax", 0)).unlink()
    data = next(iter(tmp_path.glob("data/*/test.safetensors")))
    kept = data.read_bytes()
    data.write_bytes(kept[:-7])
    # Snakemake touches what a job leaves alone; a file that is made anew is another file.
    before = {path: tmp_path / str(number) for number, path in enumerate(tmp_path.glob("results/**/samples.parquet"))}
    for path, same in before.items():
        os.link(path, same)
    failed = run_snakemake(tmp_path, check=False)
    assert failed.returncode == 1
    log = paths.log(make_cell("evaluate", "small", "softmax", 0, "pgd")).read_text()
    assert re.search(r"test\.safetensors: is truncated", log)
    assert planned_jobs(tmp_path)["evaluate"] == 4
    data.write_bytes(kept)
    run_snakemake(tmp_path)
    assert planned_jobs(tmp_path) == {}
    anew = {path.parent.name for path, same in before.items() if not path.samefile(same)}
    assert anew == {"attack=pgd", "attack=ddn"}, "a model trained again to the same weights has nothing measured anew"
