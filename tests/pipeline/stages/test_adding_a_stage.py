"""The stage of CONTRIBUTING.md is added by three files: its declaration, its run function and its rule."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.contributions import clone_with, run_module
from tests.support.stub_outputs import CONFIG, write_config


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with a configuration, and with the three files of the stage `count`."""
    folder = clone_with("Add a stage", tmp_path_factory.mktemp("clone"))
    write_config(folder, CONFIG)
    return folder


def test_the_command_line_has_the_stage(clone):
    """The sub-command of the stage is listed with its help, between its neighbors."""
    shown = run_module(clone, "gauntlet", "--help")
    assert re.search(r"diagnose .*\n(.*\n)*?.*count +Count the training images\..*\n(.*\n)*?.*inspect ", shown)


def test_status_and_snakemake_have_its_cells(clone):
    """The cell is missing at first, and planned with the data set that it reads."""
    status = json.loads(run_module(clone, "gauntlet", "status", "--json"))
    assert [cell["state"] for cell in status["cells"] if cell["stage"] == "count"] == ["missing"]
    planned = run_module(clone, "snakemake", "--profile", "local", "-n", "results/small/count.parquet")
    assert re.search(r"^count +1$", planned, flags=re.MULTILINE)
    assert re.search(r"^prepare +1$", planned, flags=re.MULTILINE)
    everything = run_module(clone, "snakemake", "--profile", "local", "-n")
    assert re.search(r"^count +1$", everything, flags=re.MULTILINE)


@pytest.mark.slow
def test_snakemake_makes_its_cells_once(clone):
    """The rule makes the cell, which is then done: a second run has nothing to do."""
    run_module(clone, "snakemake", "--profile", "local", "results/small/count.parquet")
    status = json.loads(run_module(clone, "gauntlet", "status", "--json"))
    assert [cell["state"] for cell in status["cells"] if cell["stage"] == "count"] == ["done"]
    assert "Nothing to be done" in run_module(clone, "snakemake", "--profile", "local", "results/small/count.parquet")
