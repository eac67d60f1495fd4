"""A training that `srun` of a real SLURM starts as several tasks."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gauntlet.core.parquet import read_metadata
from gauntlet.pipeline import paths
from tests.support.interruptible import MODEL, run_command, training_outcome, write_training_config

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_tasks_of_a_step_share_a_training_with_the_result_of_one_process(slurm, tmp_path, monkeypatch):
    """Tasks connect by SLURM's variables, and one of them writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_training_config(tmp_path, epochs=3, gpus=2)
    run_command(tmp_path, "prepare")
    command = [sys.executable, "-m", "gauntlet", "train"]
    slurm.run("srun", "--ntasks=2", "--mem=2000", "--kill-on-bad-exit=1", *command)
    assert read_metadata(paths.history(MODEL))["gauntlet.device"].startswith("2 x ")
    shared, losses = training_outcome()
    write_training_config(tmp_path, epochs=3, gpus=1)
    run_command(tmp_path, "train", "--force")
    alone, wanted = training_outcome()
    assert losses == pytest.approx(wanted, rel=1e-4)
    for name, tensor in alone.items():
        np.testing.assert_allclose(shared[name], tensor, rtol=1e-2, atol=1e-4, err_msg=name)
