"""The table of docs/staleness.md, row by row: each edit against the jobs that Snakemake would run.

Snakemake runs a copy of the code, so that modules can be edited; the finished run consists of stub files.
"""

from __future__ import annotations

import compileall
import copy
import os
import py_compile
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gauntlet.pipeline import paths
from tests.support.cells import make_cell
from tests.support.snakemake_fork import run_fork
from tests.support.stub_outputs import CONFIG, finish_cell, finish_cells, staleness_in, write_config
from tests.support.workflow import ROOT

pytestmark = pytest.mark.slow

ALL_FIGURES = 19
OF_INSPECTIONS = 7
AFTER_ATTACKS = {"aggregate": 1, "figure": ALL_FIGURES - 1 - OF_INSPECTIONS, "table": 1, "page": 1}
AFTER_TRAINING = {"aggregate": 1, "figure": ALL_FIGURES, "table": 1, "page": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone with a finished run: code, workflow, configuration, results."""
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        lay_out(folder)
        write_config(folder, CONFIG)
        finish_cells(folder)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """The run, copied to another folder without Snakemake's records and with new time stamps."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, copy_function=shutil.copyfile, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def lay_out(folder):
    """Copy code and workflow as a clone has them."""
    for name in ("workflow", "rules", "profiles", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "local").symlink_to("profiles/local")
    # Compiled modules that stay valid in a copy with new time stamps, unless their source is edited.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "src", quiet=1, invalidation_mode=checked)


def snakemake(folder, *arguments):
    """Run Snakemake with the folder's copy of the code; a dry run is a fork."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = ["--profile", "local", *arguments]
    if "-n" in arguments:
        return run_fork(command, folder, environment)
    command = [sys.executable, "-m", "snakemake", *command]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment, timeout=1200, check=False
    )


def planned(folder):
    """Count the jobs that a run would start, by rule."""
    done = snakemake(folder, "-n")
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", shown, flags=re.MULTILINE)}
    assert bool(jobs) != ("Nothing to be done" in shown), shown
    return {name: count for name, count in jobs.items() if name not in ("total", "all")}


def configure(folder, edit):
    """Edit the experiment."""
    config = copy.deepcopy(CONFIG)
    edit(config["experiments"]["small"], config)
    write_config(folder, config)


def edit_module(folder, module, *, before="", after="\n_EDITED = 1\n"):
    """Add text before and after a module's code."""
    file = folder / "src" / "gauntlet" / module
    file.write_text(before + file.read_text() + after)


def touch_everything(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (time.time(), time.time()), follow_symlinks=False)


def comment_everywhere(folder):
    for path in (folder / "src").rglob("*.py"):
        path.write_text(f"# a comment\n\n{path.read_text()}\n\n# another\n")


def edit_docstrings(folder):
    for path in (folder / "src").rglob("*.py"):
        path.write_text(path.read_text().replace('"""', '"""New words. ', 1))


def switch_away_and_back(folder):
    edit_module(folder, "robustness/attacks/noise.py")
    assert planned(folder)["evaluate"] == 6
    file = folder / "src/gauntlet/robustness/attacks/noise.py"
    file.write_text((ROOT / "src/gauntlet/robustness/attacks/noise.py").read_text())


def set_execution(folder):
    configure(folder, lambda _, config: config.update(execution={"device": "cpu", "attack_batch_size": 3}))


def edit_profile_and_resources(folder):
    for name, old, new in (
        ("profiles/local/config.yaml", "retries: 1", "retries: 5"),
        ("rules/evaluate.smk", "    resources:\n", "    resources:\n        disk_mb=9000,\n"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))


def data_again(folder):
    data = next(cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == "prepare")
    finish_cell(staleness_in(folder), data)


def model_again(folder):
    for seed in (0, 1):
        finish_cell(staleness_in(folder), make_cell("train", "small", "ecc", seed))


def swap_two_values(folder):
    def edit(one, _):
        one["attacks"]["fgsm"]["epsilons"], one["attacks"]["pgd"]["epsilons"] = [0.1], [0.1, 0.2]

    configure(folder, edit)


def reorder_keys(folder):
    def edit(one, _):
        one["attacks"]["pgd"] = dict(reversed(one["attacks"]["pgd"].items()))
        one["training"] = {"batch_size": 128, **one["training"]}

    configure(folder, edit)


def interrupted_run_then_another_edit(folder):
    """Make half of an edit's cells, revert the edit, and make another one."""
    configure(folder, lambda one, _: one["attacks"]["pgd"].update(steps=9))
    finish_cells(folder, only=[make_cell("evaluate", "small", "ecc", seed, "pgd") for seed in (0, 1)])
    configure(folder, lambda one, _: one["variants"]["softmax"].update(training={"epochs": 2}))


def made_without_a_controller(folder):
    """Finish all jobs of an edit without a record in Snakemake, as after the controller's death."""
    configure(folder, lambda one, _: one["attacks"]["pgd"].update(steps=9))
    finish_cells(folder)


def two_edits(folder):
    def edit(one, _):
        one["attacks"]["noise"]["epsilons"] = [0.25, 0.5]
        one["variants"]["ecc"]["training"] = {"epochs": 2}

    configure(folder, edit)


def delete_one_of_each(folder):
    paths.history(make_cell("train", "small", "ecc", 0)).unlink()
    paths.examples(make_cell("evaluate", "small", "softmax", 1, "ddn")).unlink()
    paths.figure("small", "heat_map", "svg").unlink()
    paths.paper_table("small", "macros.tex").unlink()


ROWS = [
    ("any file touched", touch_everything, {}),
    ("comments and formatting in every module", comment_everywhere, {}),
    ("docstrings of every module", edit_docstrings, {}),
    ("code switched away and back", switch_away_and_back, {}),
    ("execution settings", set_execution, {}),
    ("profile and resources", edit_profile_and_resources, {}),
    ("data prepared again to the same bytes", data_again, {}),
    ("models trained again to the same bytes", model_again, {}),
    ("keys reordered, defaults written out", reorder_keys, {}),
    ("made while no controller watched", made_without_a_controller, {}),
    (
        "one variant's hyperparameter",
        lambda folder: configure(folder, lambda one, _: one["variants"]["ecc"].update(training={"epochs": 2})),
        {"train": 2, "evaluate": 8, "diagnose": 2, "inspect": 1, **AFTER_TRAINING},
    ),
    (
        "a new variant",
        lambda folder: configure(
            folder, lambda one, _: one["variants"].update(wide={"model": {"name": "cnn", "widths": [9]}})
        ),
        {"train": 2, "evaluate": 8, "diagnose": 2, "inspect": 1, **AFTER_TRAINING},
    ),
    (
        "a new seed",
        lambda folder: configure(folder, lambda one, _: one.update(seeds=[0, 1, 2])),
        {
            **AFTER_ATTACKS,
            "train": 3,
            "evaluate": 12,
            "certify": 1,
            "diagnose": 3,
            "figure": ALL_FIGURES - OF_INSPECTIONS,
        },
    ),
    (
        "a new attack",
        lambda folder: configure(
            folder, lambda one, _: one["attacks"].update(bim={"name": "bim", "norm": "l2", "epsilons": [0.5]})
        ),
        {"evaluate": 6, **AFTER_ATTACKS},
    ),
    (
        "a new ε",
        lambda folder: configure(folder, lambda one, _: one["attacks"]["pgd"].update(epsilons=[0.1, 0.3])),
        {"evaluate": 6, "diagnose": 6, **AFTER_ATTACKS},
    ),
    (
        "one attack's parameter",
        lambda folder: configure(folder, lambda one, _: one["attacks"]["ddn"].update(steps=4)),
        {"evaluate": 6, **AFTER_ATTACKS},
    ),
    (
        "one attack's number of samples",
        lambda folder: configure(folder, lambda one, _: one["attacks"]["ddn"].update(samples=7)),
        {"evaluate": 6, **AFTER_ATTACKS},
    ),
    (
        "one attack's module",
        lambda folder: edit_module(folder, "robustness/attacks/noise.py"),
        {"evaluate": 6, **AFTER_ATTACKS},
    ),
    (
        "the module of a layer",
        lambda folder: edit_module(folder, "learning/models/lipschitz_cnn.py"),
        {"train": 2, "evaluate": 8, "certify": 2, "diagnose": 2, "inspect": 1, **AFTER_TRAINING},
    ),
    (
        "one figure's module",
        lambda folder: edit_module(folder, "reporting/figures/heat_map.py"),
        {"figure": 1, "page": 1},
    ),
    ("the tables' module", lambda folder: edit_module(folder, "reporting/tables/latex.py"), {"table": 1}),
    (
        "a title",
        lambda folder: configure(folder, lambda one, _: one["variants"]["ecc"].update(title="ECC")),
        {**AFTER_ATTACKS, "figure": ALL_FIGURES},
    ),
    (
        "the headline",
        lambda folder: configure(folder, lambda one, _: one.update(headline={"linf": [0.1]})),
        AFTER_ATTACKS,
    ),
    ("two values swapped", swap_two_values, {"evaluate": 12, **AFTER_ATTACKS}),
    (
        "a key renamed",
        lambda folder: configure(folder, lambda one, _: one["attacks"].update(pgd3=one["attacks"].pop("pgd"))),
        {"evaluate": 6, **AFTER_ATTACKS},
    ),
    (
        "two edits",
        two_edits,
        {"train": 2, "evaluate": 8 + 4, "diagnose": 6, "inspect": 1, **AFTER_TRAINING},
    ),
    (
        "an interrupted run, then another edit",
        interrupted_run_then_another_edit,
        {"train": 2, "evaluate": 8 + 2, "diagnose": 2, "inspect": 1, **AFTER_TRAINING},
    ),
    (
        "a deleted file of each kind",
        delete_one_of_each,
        {"train": 1, "evaluate": 1 + 4, "diagnose": 1, "inspect": 1, **AFTER_TRAINING},
    ),
]


@pytest.mark.parametrize(("edit", "jobs"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_edit_reruns_exactly(run, edit, jobs):
    """Snakemake would start exactly these jobs over copied results without its records."""
    edit(run)
    assert planned(run) == jobs


def test_a_failed_rerun_is_not_forgotten(run):
    """The old output of a failed job is stale and stays planned."""
    configure(run, lambda one, _: one["attacks"]["pgd"].update(steps=9))
    for attempt in range(2):
        done = snakemake(run, "results/small/evaluations/variant=ecc/seed=0/attack=pgd/samples.parquet")
        assert done.returncode == 1, f"attempt {attempt}: pretended models cannot be attacked"
        assert paths.samples(make_cell("evaluate", "small", "ecc", 0, "pgd")).is_file()
        assert planned(run) == {"evaluate": 6, **AFTER_ATTACKS}
