"""Repeated runs on a GPU: the same inputs give the same bytes."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from gauntlet.core.determinism import set_determinism
from gauntlet.core.device_errors import NonDeterministicError, device_errors_reported
from gauntlet.core.parquet import read_table
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.models.weights import load_model
from gauntlet.learning.training.history import VOLATILE
from gauntlet.pipeline import paths
from gauntlet.pipeline.run_stage import run_stage
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages.catalog import stages
from tests.support.stub_outputs import write_config


def run(folder: Path, device: torch.device, **execution: object) -> dict[str, pa.Table | str]:
    """Run every stage with a model; return the contents of the tables, and the digest of the weights."""
    folder.mkdir()
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 400, "test": 60}},
        "seeds": [1],
        "training": {"epochs": 2, "augmentation": ["shift"]},
        "diagnostics": {"samples": 8, "steps": 3},
        "variants": {"cnn": {"model": "cnn"}, "fast": {"model": "cnn", "training": {"precision": "bfloat16"}}},
        "attacks": {
            "a": {"name": "pgd", "norm": "linf", "epsilons": [0.05, 0.1], "steps": 5, "restarts": 2},
            "s": {"name": "square", "norm": "l2", "epsilons": [0.5], "queries": 50},
        },
        "certificates": {"smooth": {"name": "smoothing", "sigma": 0.1, "n0": 20, "n": 200}},
    }
    found: dict[str, pa.Table | str] = {}
    with chdir(folder):
        write_config(folder, {"experiments": {"tiny": tiny}, "execution": {"device": str(device), **execution}})
        for stage in stages():
            if stage.name == "prepare" or stage.uses_model:
                for cell in run_stage(stage):
                    found |= contents(cell)
    return found


def contents(cell: Cell) -> dict[str, pa.Table | str]:
    """Return the tables that a cell made, and the digest of its weights."""
    found: dict[str, pa.Table | str] = {}
    for path in cell.outputs:
        if path.suffix == ".parquet" and "data" not in path.parts:
            table = read_table(path)
            found[str(path)] = table.drop_columns([name for name in table.column_names if name in VOLATILE])
        elif path.name == "model.safetensors":
            found[str(path)] = tensor_digest(load_model(paths.model_folder(cell)).state_dict())
    return found


def test_two_runs_give_the_same_bytes(device: torch.device, tmp_path: Path) -> None:
    """Weights, rows of attacks and certificates, measurements of the diagnostics, arrays of the inspection."""
    first, second = (run(tmp_path / name, device) for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert len(first) > 10
    assert [name for name in first if first[name] != second[name]] == []


def test_an_operation_without_a_deterministic_kernel_is_named(gpu: torch.device) -> None:
    """In a backward pass the operation alone, as torch names it."""
    set_determinism(True)
    x = torch.rand(2, 3, 9, 9, device=gpu, requires_grad=True)
    named = "adaptive_avg_pool2d_backward_cuda has no deterministic kernel"
    with pytest.raises(NonDeterministicError, match=named), device_errors_reported():
        torch.nn.functional.adaptive_avg_pool2d(x, 4).sum().backward()
    set_determinism("warn")
    with pytest.warns(UserWarning, match="adaptive_avg_pool2d_backward_cuda"):
        torch.nn.functional.adaptive_avg_pool2d(x, 4).sum().backward()
