"""The device of a stage that may be one of several processes, and the group that these form."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from gauntlet.config.schema import Execution
from gauntlet.core.errors import InputError
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.torchrun import is_one_of_several

_PATIENCE = datetime.timedelta(minutes=10)
"""Nobody waits longer for another process: a checkpoint is written within that time, a dead machine is not."""


@contextmanager
def open_processes(execution: Execution, count: int) -> Iterator[tuple[torch.device, DataParallelGroup | None]]:
    """Give the device to work on, and the group where this process is one of several.

    A training for one process is never shared, whatever started it; one for several is shared by as many as were
    started. Raises InputError when there are fewer GPUs than processes.
    """
    if count == 1 or not is_one_of_several():
        yield open_device(execution), None
        return
    if "WORLD_SIZE" not in os.environ:
        _export_environment()
    device = _own_device(execution)
    # Flags and objects travel between the hosts' memories whatever the device: no step waits for the GPU to send them.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    processes = DataParallelGroup()
    if processes.rank:
        logging.getLogger("gauntlet").setLevel(logging.WARNING)
    yield device, processes
    # After a failure the others may be gone, and an orderly end would wait for them.
    dist.destroy_process_group()


def describe_processes(device: torch.device, processes: DataParallelGroup | None) -> str:
    """Name the devices, as metadata records them."""
    return describe_device(device) if processes is None else f"{processes.world_size} x {describe_device(device)}"


def _export_environment() -> None:
    """Tell torch, by variables, of the processes that srun started on one node or several."""
    from submitit.helpers import TorchDistributedEnvironment

    # The helper works in submitit's own jobs; this variable is all that it tells them by.
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
