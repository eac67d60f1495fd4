"""The device of a process that may be one of several, and their process group."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from gauntlet.config.execution import Execution
from gauntlet.core.errors import InputError
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.torchrun import is_one_of_several

_PATIENCE = datetime.timedelta(minutes=10)
"""Longest wait for another process: long enough to write a checkpoint."""


@contextmanager
def open_processes(execution: Execution, count: int) -> Iterator[tuple[torch.device, DataParallelGroup | None]]:
    """Yield the device to work on, and the process group if this process is one of several.

    A training for one process is never shared, whatever started it; one for several is shared by all that were started.
    Raises InputError when there are fewer GPUs than processes.
    """
    if count == 1 or not is_one_of_several():
        yield open_device(execution), None
        return
    if "WORLD_SIZE" not in os.environ:
        _export_environment()
    device = _own_device(execution)
    # Flags and objects are exchanged by gloo on the CPU, so that no step waits for the GPU to send them.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    processes = DataParallelGroup()
    if processes.rank:
        logging.getLogger("gauntlet").setLevel(logging.WARNING)
    yield device, processes
    # Not reached after a failure: the other processes may be gone, and this would wait for them.
    dist.destroy_process_group()


def describe_processes(device: torch.device, processes: DataParallelGroup | None) -> str:
    """Return the names of the devices, as metadata records them."""
    return describe_device(device) if processes is None else f"{processes.world_size} x {describe_device(device)}"


def _export_environment() -> None:
    """Set the environment variables by which torch finds the processes that srun started."""
    from submitit.helpers import TorchDistributedEnvironment

    # submitit's helper recognizes its own jobs by this variable alone.
    before = os.environ.get("SUBMITIT_EXECUTOR")
    os.environ["SUBMITIT_EXECUTOR"] = "slurm"
    try:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    finally:
        if before is None:
            del os.environ["SUBMITIT_EXECUTOR"]
        else:
            os.environ["SUBMITIT_EXECUTOR"] = before


def _own_device(execution: Execution) -> torch.device:
    if execution.device == "cpu" or (execution.device == "auto" and not torch.cuda.is_available()):
        return open_device(execution.model_copy(update={"device": "cpu"}))
    here, number, count = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    # SLURM may show each task one GPU, its own; torchrun shows all to all.
    if here < count and ("TORCHELASTIC_RUN_ID" in os.environ or here != 1):
        remedy = "ask for as many GPUs as `training.gpus`, or lower it"
        raise InputError(f"{count} processes, but {here} GPUs here", where="training.gpus", remedy=remedy)
    device = open_device(execution.model_copy(update={"device": f"cuda:{number % here}"}))
    torch.cuda.set_device(device)
    return device
