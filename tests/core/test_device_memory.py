"""The first batch size on a GPU, from measured bytes; here with a device that is a formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gauntlet.core.device_memory import CudaMemory, fitting_size, measured_batch_size, memory_of
from gauntlet.core.gpu_share import SHARE_VARIABLE


class Formula:
    """A device of `total` bytes, on which a batch of n images needs `constant + n * per_image`."""

    def __init__(self, total: int, *, constant: int = 100, per_image: int = 10) -> None:
        self.total, self.constant, self.per_image = total, constant, per_image
        self.sizes: list[int] = []

    def free(self) -> int:
        """Return everything."""
        return self.total

    def peak(self, run: Callable[[], object]) -> int:
        """Return the bytes of the last batch."""
        run()
        return self.constant + self.per_image * self.sizes[-1]

    def compute(self, size: int) -> None:
        """Run out of memory where a batch needs more than there is."""
        self.sizes.append(size)
        if self.constant + self.per_image * size > self.total:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("total", "size"),
    [
        (10**9, 1024),  # everything fits
        (2 * 10_340, 1024),  # just
        (2 * 10_339, 512),
        (300, 4),  # 150 bytes: 5 images
        (261, 2),
        (150, 4),  # the larger of the two batches does not fit
        (120, 4),  # none does, which halving will find
    ],
)
def test_a_batch_takes_half_of_the_free_memory(total: int, size: int) -> None:
    """A power of two, so that kernels see few shapes."""
    device = Formula(total)
    assert measured_batch_size(device, device.compute, most=1024) == size
    assert max(device.sizes) <= 16


@pytest.mark.parametrize(
    ("cells", "available", "size"), [("1", 20_678, 512), ("4", 20_678, 128), ("4", 3_000, 128), ("4", 1_000, 32)]
)
def test_a_shared_gpu_is_divided_once(monkeypatch: pytest.MonkeyPatch, cells: str, available: int, size: int) -> None:
    """Of a GPU of 20678 bytes each of 4 cells has a quarter, of which a batch takes half: 2584 bytes, 248 images."""
    monkeypatch.setenv(SHARE_VARIABLE, cells)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (available, 20_678))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda _device: 0)
    device = Formula(10**6)
    monkeypatch.setattr(device, "free", CudaMemory(torch.device("cuda")).free)
    assert measured_batch_size(device, device.compute, most=1024) == size


def test_sizes_below_the_measured_ones_and_odd_largest_ones() -> None:
    """The line through two measurements may be flat, or begin below zero."""
    assert fitting_size({4: 100, 16: 100}, 1, most=300) == 300
    assert fitting_size({4: 10, 16: 100}, 10**6, most=300) == 300
    assert fitting_size({4: 1000, 16: 4000}, 500, most=300) == 2
    assert fitting_size({4: 1000, 16: 4000}, 100, most=300) == 1


def test_other_errors_of_the_model_are_raised() -> None:
    """Only memory that runs out is an answer."""

    def compute(size: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        measured_batch_size(Formula(10), compute, most=8)


def test_the_cpu_keeps_its_sizes() -> None:
    """There a batch that fits into the caches is fastest, and memory is no limit."""
    assert memory_of(torch.device("cpu")) is None
