"""Choice of where the images of a training are: on its device, or in their files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from gauntlet.core.device_memory import memory_of
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.stored_images import StoredSplit

_SHARE = 0.25
"""Share of the free memory that images may take: the rest is for weights, activations and other processes."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def resident(
    splits: Sequence[StoredSplit], device: torch.device, *, budget: int | None = None
) -> list[Split | StoredSplit]:
    """Read splits onto a device, the small ones first, as long as they fit into `budget` bytes; return all of them.

    By default the budget is a quarter of the device's free memory. Training gives the same bytes in both cases.
    """
    left = int(_free_bytes(device) * _SHARE) if budget is None else budget
    placed: dict[int, Split | StoredSplit] = {}
    for number in sorted(range(len(splits)), key=lambda number: splits[number].images.bytes):
        split = splits[number]
        left -= split.images.bytes
        placed[number] = split.load(device) if left >= 0 else split
    return [placed[number] for number in range(len(splits))]


def _free_bytes(device: torch.device) -> int:
    memory = memory_of(device)
    return _free_host_bytes() if memory is None else memory.free()


def _free_host_bytes(environ: Mapping[str, str] = os.environ) -> int:
    """Return the host's free memory, at most what a job or its control group may use."""
    limits = [int(psutil.virtual_memory().available)]
    job = environ.get("SLURM_MEM_PER_NODE", "")
    if job.isdecimal() and int(job):
        limits.append(int(job) * 2**20)
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limits)
