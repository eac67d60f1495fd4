"""Adaptive batch sizes that halve when memory runs out and grow back later."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import GauntletError
from gauntlet.robustness.attacks.base.query_counts import QueryCounts

CPU = torch.device("cpu")


def test_a_batch_of_one_that_does_not_fit_is_an_error() -> None:
    """Memory that is too small for a single image is reported as such."""
    batches = BatchSize(5, CPU)
    batches.halve()
    batches.halve()
    assert batches.current == 1
    with pytest.raises(GauntletError, match="out of memory with a batch of one"):
        batches.halve()


def test_a_reduced_batch_size_grows_back() -> None:
    """A larger batch is tried after a while, up to the first size; each failed trial doubles the while."""
    limit, sizes = 4, []

    def run(part: slice) -> None:
        sizes.append(part.stop - part.start)
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("out of memory")

    batches = BatchSize(16, CPU)
    list(batches.parts(4 * 32, run))
    assert sizes == [16, 8, *[4] * 32]
    sizes.clear()
    list(batches.parts(4 * 64, run))
    assert sizes == [8, *[4] * 64]
    limit = 99
    sizes.clear()
    list(batches.parts(8 * 64 + 16, run))
    assert sizes == [*[8] * 64, 16]


def test_other_errors_are_raised() -> None:
    """Only out-of-memory errors reduce the batch size."""

    def run(part: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(BatchSize(4, CPU).parts(4, run))


def test_queries_of_a_failed_batch_are_not_counted() -> None:
    """A batch that runs out of memory is counted once, when it is repeated."""
    counts = QueryCounts(CPU)
    counts.start(6)
    batches = BatchSize(6, CPU)

    def run(part: slice) -> None:
        with counts.subset(part):
            counts.add_forwards(part.stop - part.start)
        if part.stop - part.start > 2:
            raise MemoryError

    list(batches.parts(6, run, counter=counts))
    assert counts.totals["forwards"].tolist() == [1] * 6


def test_a_failed_batch_is_freed_before_the_next_is_tried() -> None:
    """The error's traceback would keep the tensors of the failed pass alive: the half would not fit either."""
    network, counts = Hungry(), QueryCounts(CPU)
    counts.start(8)
    gc.disable()
    try:
        list(BatchSize(8, CPU).parts(8, lambda part: network(torch.rand(part.stop - part.start, 3)), counter=counts))
    finally:
        gc.enable()
    assert network.alive == [0, 0, 0, 0, 0, 0]
    assert network.sizes == [8, 4, 2, 2, 2, 2]


class Hungry(nn.Module):
    """A network that runs out of memory with over 2 images, and counts the earlier activations still in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.alive: list[int] = []
        self.activations: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the images."""
        self.alive.append(sum(reference() is not None for reference in self.activations))
        self.sizes.append(len(x))
        activation = x.repeat(2, 1)
        self.activations.append(weakref.ref(activation))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x
