"""Adaptive batch size that halves when memory runs out, and doubles again after enough batches that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import torch

from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.errors import GauntletError

T = TypeVar("T")

_PATIENCE = 32
"""Number of batches in a row that must fit before a larger one is tried; doubled each time the larger one fails."""


class Counter(Protocol):
    """Counts that can be rolled back when the counted work fails."""

    def transaction(self) -> AbstractContextManager[None]:
        """Keep the counts made inside, unless an exception leaves the context."""


class BatchSize:
    """Number of samples that go through a model at once: at most `size`, fewer while memory is short."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = self.current = size
        self.device = device
        self._fitted, self._patience, self._growing = 0, _PATIENCE, False

    def start_with(self, size: int) -> None:
        """Start with another size, which is also the largest one."""
        self.size = self.current = size

    @property
    def reduced(self) -> int | None:
        """Return the current size if memory ran out and it is smaller than `size`, else None."""
        return self.current if self.current < self.size else None

    def halve(self) -> None:
        """Halve the batch size after memory ran out. Raises GauntletError when a single sample does not fit."""
        if self.current == 1:
            raise GauntletError("out of memory with a batch of one image", remedy="use a device with more memory")
        if self._growing:
            self._patience *= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.current //= 2
        self._fitted, self._growing = 0, False

    def _count_fit(self) -> None:
        """Count a batch that fitted; after enough of them, double a reduced size."""
        if self.current == self.size:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self.current = min(2 * self.current, self.size)
            self._fitted, self._growing = 0, True

    def parts(self, samples: int, run: Callable[[slice], T], *, counter: Counter | None = None) -> Iterator[T]:
        """Call `run` on consecutive slices of the samples, halved when memory runs out; for 0 samples on an empty one.

        `counter` is rolled back when memory runs out.
        """
        done = 0
        while True:
            part = slice(done, min(done + self.current, samples))
            fits = True
            try:
                with counter.transaction() if counter is not None else nullcontext():
                    result = run(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                fits = False
            # Outside `except`, whose error keeps the tensors of the failed pass alive.
            if not fits:
                self.halve()
                continue
            self._count_fit()
            yield result
            done = part.stop
            if done >= samples:
                return
