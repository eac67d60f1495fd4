"""The device of a stage: the one that the configuration names, or one line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gauntlet.config import load
from gauntlet.core.errors import InputError
from gauntlet.pipeline.stages.device import choose_device
from tests.support.stub_outputs import CONFIG, write_config


@pytest.mark.parametrize(
    ("name", "gpus", "device"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_that_exists_is_used(name: str, gpus: int, device: str) -> None:
    """By default a GPU where there is one."""
    assert choose_device(name, cuda_devices=gpus) == device


@pytest.mark.parametrize(
    ("name", "gpus", "problem"),
    [
        ("cuda:2", 2, "this machine has no 'cuda:2': its GPUs are cuda:0 to cuda:1"),
        ("cuda:1", 1, "this machine has no 'cuda:1': its only GPU is cuda:0"),
        ("cuda", 0, "there is no 'cuda': torch finds no GPU on this machine"),
    ],
)
def test_a_device_that_does_not_exist_is_refused(name: str, gpus: int, problem: str) -> None:
    """In one line with the key."""
    with pytest.raises(InputError, match=f"^execution.device: {problem}; set `execution: {{device: auto}}`"):
        choose_device(name, cuda_devices=gpus)


@pytest.mark.parametrize(
    ("execution", "problem"),
    [
        ({"device": "mps"}, "execution.device: mps is not supported"),
        ({"device": "tpu"}, "execution.device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"deterministic": "sometimes"}, "execution.deterministic: expected true, 'warn' or false"),
    ],
)
def test_other_settings_are_refused_by_the_configuration(
    tmp_path: Path, execution: dict[str, Any], problem: str
) -> None:
    """Before anything is run."""
    with pytest.raises(InputError, match=problem):
        load([write_config(tmp_path, {**CONFIG, "execution": execution})])
