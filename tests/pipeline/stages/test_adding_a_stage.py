"""A stage is added by three files: its declaration, its run function and its rule."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.stub_outputs import CONFIG, write_config

DECLARATION = '''
"""Declaration of the stage `count`."""

from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.prepare.declaration import data_inputs
from gauntlet.pipeline.stage import Cell, Stage

STAGE = Stage(
    name="count",
    order=45,
    help="Count the training images.",
    ids=("experiment",),
    cells=lambda scope: [Cell(STAGE, scope.name)],
    inputs=lambda _cell, scope: data_inputs(scope),
    outputs=lambda cell: (paths.experiment_folder(cell.experiment) / "count.parquet",),
    slice=lambda cell, _scope, _files: {"experiment": cell.experiment},
    minutes=5,
)
'''

RUN = '''
"""From a stored data set to the number of its training images."""

import pyarrow as pa

from gauntlet.core.parquet import write_table
from gauntlet.learning.data.manifest import load_data_manifest


def run(job):
    """Count the training images of one experiment."""
    (manifest,) = job.inputs
    count = load_data_manifest(manifest.parent).sizes["train"]
    write_table(job.cell.outputs[0], pa.table({"images": [count]}), job.recipe.metadata())
'''

RULE = """
# Count the training images of one experiment.
rule count:
    input:
        cell_inputs("count"),
    output:
        table=update("results/{experiment}/count.parquet"),
    log:
        "logs/{experiment}/count.log",
    benchmark:
        "logs/{experiment}/count.tsv"
    threads: 1
    resources:
        **job_resources("count", rule="count"),
        slot=1,
    params:
        configs=CONFIGS,
    shell:
        "gauntlet count {params.configs} --experiment {wildcards.experiment} > {log} 2>&1"
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with a configuration, and with the three files of the stage `count`."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("workflow", "rules", "profiles", "envs", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "local").symlink_to("profiles/local")
    write_config(folder, CONFIG)
    stage = folder / "src/gauntlet/pipeline/stages/count"
    stage.mkdir()
    (stage / "declaration.py").write_text(DECLARATION.lstrip())
    (stage / "run.py").write_text(RUN.lstrip())
    (folder / "rules/count.smk").write_text(RULE.lstrip())
    return folder


def command(folder, *arguments):
    """Run a module of the clone's code, and return its standard output and error."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "120"}
    environment["PATH"] = os.pathsep.join([str(folder), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line_has_the_stage(clone):
    """The sub-command of the stage is listed with its help, between its neighbors."""
    shown = command(clone, "gauntlet", "--help")
    assert re.search(r"diagnose .*\n(.*\n)*?.*count +Count the training images\..*\n(.*\n)*?.*inspect ", shown)


def test_status_and_snakemake_have_its_cells(clone):
    """The cell is missing at first, and planned with the data set that it reads."""
    status = json.loads(command(clone, "gauntlet", "status", "--json"))
    assert [cell["state"] for cell in status["cells"] if cell["stage"] == "count"] == ["missing"]
    planned = command(clone, "snakemake", "--profile", "local", "-n", "results/small/count.parquet")
    assert re.search(r"^count +1$", planned, flags=re.MULTILINE)
    assert re.search(r"^prepare +1$", planned, flags=re.MULTILINE)
    everything = command(clone, "snakemake", "--profile", "local", "-n")
    assert re.search(r"^count +1$", everything, flags=re.MULTILINE)


@pytest.mark.slow
def test_snakemake_makes_its_cells_once(clone):
    """The rule makes the cell, which is then done: a second run has nothing to do."""
    command(clone, "snakemake", "--profile", "local", "results/small/count.parquet")
    status = json.loads(command(clone, "gauntlet", "status", "--json"))
    assert [cell["state"] for cell in status["cells"] if cell["stage"] == "count"] == ["done"]
    assert "Nothing to be done" in command(clone, "snakemake", "--profile", "local", "results/small/count.parquet")
