"""The cluster that the tests use."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_job_sees_its_gpus_only(slurm, tmp_path):
    """There are two GPUs, and a job without a request gets none."""
    for count in (0, 1, 2):
        out = tmp_path / str(count)
        asks = [f"--gpus={count}"] if count else []
        slurm.run("sbatch", f"--output={out}", "--mem=10", *asks, "--wait", "--wrap=echo ${CUDA_VISIBLE_DEVICES-none}")
        deadline_s = time.monotonic() + 60
        while not out.read_text() and time.monotonic() < deadline_s:
            time.sleep(0.1)
    assert [(tmp_path / str(count)).read_text().strip() for count in (0, 1, 2)] == ["none", "0", "0,1"]
