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


def gauntlet(*arguments, **options):
    """Start the command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gauntlet", "--quiet", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_two_trainings_of_one_cell_at_once(tmp_path, monkeypatch):
    """Both succeed, and the cell is whole, current, and accepted by aggregation."""
    config = copy.deepcopy(SMALL)
    config["experiments"]["small"]["dataset"] = {"source": "sklearn_digits", "limit": {"train": 200, "test": 50}}
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, config)
    assert gauntlet("prepare").communicate()[1] == ""
    ids = ("--experiment", "small", "--variant", "softmax", "--seed", "0")
    twins = [gauntlet("train", "config.yaml", *ids) for _ in range(2)]
    said = [twin.communicate()[1] for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], said
    model = make_cell("train", "small", "softmax", 0)
    assert staleness_in(tmp_path).is_current(model)
    assert len(read_table(paths.history(model))) == 2
    assert {path.name for path in paths.model_folder(model).iterdir()} == {
        "model.safetensors",
        "manifest.json",
        "history.parquet",
    }
