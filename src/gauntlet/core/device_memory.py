"""Number of images that fit into a GPU's memory at once, from the memory that two small batches need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.gpu_share import cells_on_gpu

_TRIED = (4, 16)
"""Sizes of the batches that are measured."""
_SHARE = 0.5
"""Share of the free memory that one batch may take: attacks keep tensors of a part, libraries need workspaces."""


class DeviceMemory(Protocol):
    """The memory of a device, in bytes."""

    def free(self) -> int:
        """Return how much this process can still allocate."""

    def peak(self, run: Callable[[], object]) -> int:
        """Return how much more than before was allocated at once while `run` ran."""


class CudaMemory:
    """The memory of a GPU, of which other processes may hold a part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def free(self) -> int:
        """Return the GPU's free memory and what torch holds without using it; of a shared GPU at most an equal part."""
        torch.cuda.empty_cache()
        available, total = torch.cuda.mem_get_info(self.device)
        reserved = torch.cuda.memory_reserved(self.device)
        # Of a shared GPU the others have not yet taken their part.
        available = min(available, max(0, total // cells_on_gpu() - reserved))
        return available + reserved - torch.cuda.memory_allocated(self.device)

    def peak(self, run: Callable[[], object]) -> int:
        """Return how much more than before was allocated at once while `run` ran."""
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process allocate at most this share of a GPU's memory, in (0, 1]; `cuda` is the current GPU."""
    # Unlike torch's other functions, this one refuses a device without an index.
    torch.cuda.set_per_process_memory_fraction(share, device.index)


def memory_of(device: torch.device) -> DeviceMemory | None:
    """Return the memory of a GPU; None for the CPU, whose caches and not whose memory decide the best size."""
    return CudaMemory(device) if device.type == "cuda" else None


def measured_batch_size(memory: DeviceMemory, run: Callable[[int], object], *, most: int, share: float = _SHARE) -> int:
    """Measure two small batches and return the size that fits, a power of two or `most`; at least the smaller one.

    `run` computes on a batch of a given size.
    """
    peaks: dict[int, int] = {}
    for size in _TRIED:
        try:
            # Once before, since libraries choose kernels and allocate workspaces in their first pass.
            run(size)
            peaks[size] = memory.peak(lambda size=size: run(size))  # type: ignore[misc]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
    if len(peaks) < len(_TRIED):
        # Halving finds what fits, if not even the smaller one does.
        return min(most, _TRIED[0])
    return fitting_size(peaks, int(memory.free() * share), most=most)


def fitting_size(peaks: dict[int, int], available: int, *, most: int) -> int:
    """Return the largest power of two, at most `most`, whose batch fits into `available` bytes, or `most` if it fits.

    `peaks` are the bytes that batches of two sizes need; those of others lie on the line through them. At least 1.
    """
    (small, small_bytes), (large, large_bytes) = sorted(peaks.items())
    per_image = (large_bytes - small_bytes) / (large - small)
    constant = max(0.0, small_bytes - per_image * small)
    if per_image <= 0 or constant + per_image * most <= available:
        return most
    fits = int((available - constant) / per_image)
    return 1 << (fits.bit_length() - 1) if fits >= 1 else 1
