"""The device of the tests: a GPU, or the one that GAUNTLET_TEST_DEVICE names, to try them without one."""

from __future__ import annotations

import os

import pytest
import torch

from gauntlet.core.determinism import CUBLAS_WORKSPACE

# Before the first test that uses the GPU, as a stage's process does.
os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")


@pytest.fixture
def device() -> torch.device:
    """A GPU; tests are skipped where there is none."""
    named = os.environ.get("GAUNTLET_TEST_DEVICE")
    if named is None and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU on this machine")
    return torch.device(named or "cuda")


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """A GPU, for what no other device has."""
    if device.type != "cuda":
        pytest.skip("needs a GPU")
    return device
