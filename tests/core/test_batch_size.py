"""Batches that fit into memory: halved, grown back, with nothing counted twice."""

from __future__ import annotations

import pytest
import torch

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import GauntletError
from gauntlet.robustness.attacks.base.query_counts import QueryCounts

CPU = torch.device("cpu")


def test_halving_ends_at_one() -> None:
    """When a single image does not fit, the error says so."""
    batches = BatchSize(5, CPU)
    batches.halve()
    batches.halve()
    assert batches.current == 1
    with pytest.raises(GauntletError, match="out of memory with a batch of one"):
        batches.halve()


def test_a_reduced_batch_grows_back_when_memory_lasts_and_ever_more_rarely_when_not() -> None:
    """After a while a larger batch is tried again, up to the first size; a failed trial doubles the while."""
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


def test_another_error_is_passed_on() -> None:
    """Only the end of memory is met with smaller batches."""

    def run(part: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(BatchSize(4, CPU).parts(4, run))


def test_what_failed_is_not_counted() -> None:
    """A pass that memory interrupts is booked once, when it is done again."""
    counts = QueryCounts(CPU)
    counts.start(6)
    batches = BatchSize(6, CPU)

    def run(part: slice) -> None:
        with counts.subset(part):
            counts.add_forwards(part.stop - part.start)
        if part.stop - part.start > 2:
            raise MemoryError

    list(batches.parts(6, run, ledger=counts))
    assert counts.totals["forwards"].tolist() == [1] * 6
