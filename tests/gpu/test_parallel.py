"""One training on two GPUs: the same network as on one, up to rounding."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
import torch

from gauntlet.core.parquet import read_table
from gauntlet.pipeline import paths
from gauntlet.pipeline.run_stage import run_stage
from gauntlet.pipeline.stages.catalog import stages
from tests.support.stub_outputs import write_config


def losses(folder: Path, device: torch.device, gpus: int) -> list[float]:
    """Train a network for two epochs; return the validation losses."""
    folder.mkdir()
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 200, "test": 40}},
        "seeds": [1],
        "training": {"epochs": 2, "gpus": gpus},
        "variants": {"cnn": {"model": "cnn"}},
        "attacks": {"a": {"name": "fgsm", "norm": "linf", "epsilons": [0.1]}},
    }
    with chdir(folder):
        write_config(folder, {"experiments": {"tiny": tiny}, "execution": {"device": str(device)}})
        for stage in stages():
            if stage.name in ("prepare", "train"):
                cells = run_stage(stage)
        found: list[float] = read_table(paths.history(cells[0]))["validation_loss"].to_pylist()
    return found


def test_two_gpus_train_the_network_of_one(device: torch.device, tmp_path: Path) -> None:
    """Through torchrun and NCCL; on the CPU through gloo."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    single, shared = (losses(tmp_path / str(gpus), device, gpus) for gpus in (1, 2))
    assert shared == pytest.approx(single, rel=1e-3)
