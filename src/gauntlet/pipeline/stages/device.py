"""The device of a stage, set up so that the same inputs give the same bytes."""

from __future__ import annotations

import os

import torch

from gauntlet.config.schema import Execution
from gauntlet.core.errors import InputError


def open_device(execution: Execution) -> torch.device:
    """Return the device that the configuration names, and make torch deterministic on it.

    Raises InputError when there is no such device.
    """
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= available[device.type]:
        remedy = "set `execution: {device: auto}`, or use a machine that has it"
        raise InputError(f"there is no device '{name}' here", where="execution.device", remedy=remedy)
    if device.type != "cpu":
        # CPU kernels are deterministic at a given number of threads; the call would cost a second of imports there.
        torch.use_deterministic_algorithms(True)
        # cuBLAS is deterministic only with a workspace of fixed size, set before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return device


def describe_device(device: torch.device) -> str:
    """Return the name of a device and its threads, as metadata records it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
