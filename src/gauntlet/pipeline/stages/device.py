"""The device of a stage, set up so that the same inputs give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gauntlet.config.execution import Execution
from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.determinism import determinism_name, set_determinism, set_threads
from gauntlet.core.device_errors import device_errors_reported
from gauntlet.core.device_memory import limit_memory
from gauntlet.core.errors import InputError, located
from gauntlet.core.gpu_share import cells_on_gpu
from gauntlet.core.memory import keep_freed_memory


@contextmanager
def computing(where: str) -> Iterator[None]:
    """Compute in IEEE float32 inside, and report errors of the device in one line with the cell, `where`."""
    with located(where), device_errors_reported(), float32_arithmetic():
        yield


def open_device(execution: Execution) -> torch.device:
    """Return the device that the configuration names, and select the kernels that it allows.

    Raises InputError when there is no such device.
    """
    set_determinism(execution.deterministic)
    set_threads()
    name = choose_device(execution.device, cuda_devices=torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if name == "cpu":
        keep_freed_memory()
    device = torch.device(name)
    if device.type == "cuda" and (cells := cells_on_gpu()) > 1:
        limit_memory(device, 1 / cells)
    return device


def choose_device(name: str, *, cuda_devices: int) -> str:
    """Return the device for `execution.device`, on a machine with so many GPUs. Raises InputError if it has it not."""
    if name == "auto":
        return "cuda" if cuda_devices else "cpu"
    if name == "cpu":
        return name
    number = int(name.partition(":")[2] or 0)
    if number < cuda_devices:
        return name
    if cuda_devices:
        gpus = "only GPU is cuda:0" if cuda_devices == 1 else f"GPUs are cuda:0 to cuda:{cuda_devices - 1}"
        problem = f"this machine has no '{name}': its {gpus}"
    elif torch.version.cuda is None and torch.version.hip is None:
        problem = f"there is no '{name}': the torch installed here was built without CUDA"
    else:
        problem = f"there is no '{name}': torch finds no GPU on this machine"
    remedy = "set `execution: {device: auto}`, or use a machine that has it"
    raise InputError(problem, where="execution.device", remedy=remedy)


def device_metadata(execution: Execution, device: str, *, precision: str) -> dict[str, str]:
    """Return the entries of a file's metadata about the device: its name, precision, arithmetic and determinism.

    `precision` is that of an attack's or a training's passes; whatever decides a number is computed in `arithmetic`.
    """
    determinism = determinism_name(execution.deterministic)
    return {"device": device, "precision": precision, "arithmetic": "ieee", "determinism": determinism}


def describe_device(device: torch.device) -> str:
    """Return the name of a device and its threads, as metadata records it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
