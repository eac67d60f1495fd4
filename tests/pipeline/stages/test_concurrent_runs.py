"""Two runs of one cell at once, which end with one valid cell."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

from gauntlet.core.parquet import read_table
from gauntlet.pipeline import paths
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.synthetic_outputs import SMALL

TWO_TRAININGS = """
import os, sys
from gauntlet import cli

ids = sys.argv[1:]

def run(*arguments):
    sys.argv = ["gauntlet", "--quiet", *arguments]
    try:
        cli.main()
    except SystemExit as ending:
        return ending.code or 0
    return 0

def fork(*arguments):
    process = os.fork()
    if not process:
        os._exit(run(*arguments))
    return process

assert run("prepare") == 0
processes = [fork("train", "config.yaml", *ids) for _ in range(2)]
codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
sys.exit(max(map(abs, codes)))
"""
"""Program that prepares data and forks two trainings; forks share the libraries that it has loaded."""


def test_two_trainings_of_one_cell_at_once(tmp_path, monkeypatch):
    """Both succeed, and the cell is whole, current, and accepted by aggregation."""
    config = copy.deepcopy(SMALL)
    config["experiments"]["small"]["dataset"] = {"source": "sklearn_digits", "limit": {"train": 200, "test": 50}}
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, config)
    ids = ("--experiment", "small", "--variant", "softmax", "--seed", "0")
    command = [sys.executable, "-c", TWO_TRAININGS, *ids]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    model = make_cell("train", "small", "softmax", 0)
    assert staleness_in(tmp_path).is_current(model)
    assert len(read_table(paths.history(model))) == 2
    assert {path.name for path in paths.model_folder(model).iterdir()} == {
        "model.safetensors",
        "manifest.json",
        "history.parquet",
    }
