"""Arithmetic and kernels of every stage that computes with a network, found by the registry of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.run_stage import run_stage
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages.catalog import stages
from gauntlet.pipeline.status.metadata import file_metadata
from tests.support.arithmetic import IEEE
from tests.support.recorded_passes import Recorded
from tests.support.stub_outputs import staleness_in, write_config

ATTACK = {"name": "pgd", "norm": "linf", "epsilons": [0.05], "steps": 2}


def configure(folder: Path, network: str, **execution: Any) -> None:
    """Write a configuration with one variant and cells of every stage."""
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 60, "test": 12}},
        "seeds": [1],
        "training": {"epochs": 1},
        "diagnostics": {"samples": 4, "steps": 2},
        "variants": {"own": {"model": network}},
        "attacks": {"a": ATTACK},
        "certificates": {"s": {"name": "smoothing", "sigma": 0.1, "n0": 4, "n": 12}},
    }
    write_config(folder, {"experiments": {"tiny": tiny}, "execution": {"device": "cpu", **execution}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(cell: Cell, key: str) -> str:
    """Return an entry of the metadata of a cell's files."""
    return next(made[f"gauntlet.{key}"] for path in cell.outputs if (made := file_metadata(path)))


def test_every_stage_with_a_model_computes_in_ieee_float32_and_records_its_kernels(folder: Path) -> None:
    """Each pass of each stage; by default cuDNN would compute convolutions in TF32. Each file names the settings."""
    configure(folder, "tests.support.recorded_passes:Recorded", precision="float32")
    for stage in stages():
        if stage.name != "prepare" and not stage.uses_model:
            continue
        Recorded.PASSES.clear()
        cells = run_stage(stage)
        if stage.uses_model:
            assert torch.get_deterministic_debug_mode() == 2
            assert cells, stage
            assert len(Recorded.PASSES) > 0, stage
            wrong = [record for record in Recorded.PASSES if record[0] == torch.float32 and record[1] != [*IEEE, False]]
            assert not wrong, stage
            assert recorded(cells[0], "determinism") == "true"
            assert recorded(cells[0], "arithmetic") == "ieee"


def test_an_operation_without_a_deterministic_kernel_is_named(folder: Path) -> None:
    """Not the model is refused, but the operation, with the key that allows it; nothing is stale for it."""
    configure(folder, "tests.support.recorded_passes:Unpooled")
    by_name = {stage.name: stage for stage in stages()}
    run_stage(by_name["prepare"])
    named = r"max_unpooling2d_forward_out in layer body\.unpool \(MaxUnpool2d\) has no deterministic kernel"
    with pytest.raises(GauntletError, match=named) as caught:
        run_stage(by_name["train"])
    assert caught.value.exit_code == 2
    assert "`execution: {deterministic: warn}`" in caught.value.remedy
    configure(folder, "tests.support.recorded_passes:Unpooled", deterministic="warn")
    with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
        (cell,) = run_stage(by_name["train"])
    assert recorded(cell, "determinism") == "warn"
    configure(folder, "tests.support.recorded_passes:Unpooled", deterministic=False)
    assert staleness_in(folder).is_current(cell)
    run_stage(by_name["evaluate"])
    assert torch.get_deterministic_debug_mode() == 0
