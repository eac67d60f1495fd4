"""Choices among models on a cluster: candidates share a job, and the choice has one of its own, without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paper_cluster import paper_cluster
from tests.support.stub_outputs import write_config
from tests.support.workflow import ROOT

CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 100, "test": 20}},
            "training": {"epochs": 1},
            "seeds": [0],
            "variants": {
                "tuned": {
                    "model": "cnn",
                    "training": {"optimizer": {"name": "adam", "lr": "{lr}"}},
                    "candidates": {"sample": 2, "space": {"lr": {"log": [1e-4, 1e-2]}}},
                }
            },
        }
    },
    "execution": {"cluster": {"minutes": 5}},
}


@pytest.mark.slow
def test_a_choice_waits_for_the_job_of_its_candidates_and_asks_for_no_gpu(tmp_path):
    """One job for the data, one for both trainings, with a GPU, one for the choice."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_config(folder, CONFIG)
    cluster = paper_cluster(tmp_path / "bin")
    workflow = ["-s", ROOT / "workflow/Snakefile", "--profile", ROOT / "profiles/slurm", "--retries", "0"]
    command = [Path(sys.executable).with_name("snakemake"), *workflow, "models", "--configfile", "config.yaml"]
    poll = ["--slurm-init-seconds-before-status-checks", "1"]
    environment = cluster.environment()
    done = subprocess.run(
        [*command, *poll], cwd=folder, capture_output=True, text=True, env=environment, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr + cluster.outputs
    assert len(list(folder.rglob("model.safetensors"))) == 3
    jobs = [" ".join(words) for words, _ in cluster.calls]
    comments = ["rule_prepare", "rule_trainings", "rule_train_wildcards_tiny_tuned_0"]
    assert [comment for comment, job in zip(comments, jobs, strict=True) if comment in job] == comments
    assert ["gpu" in job.partition("--comment")[2].partition("--wrap")[0] for job in jobs] == [False, True, False], jobs
