"""Batches that fit into memory: halved when it runs out, and grown back when it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import torch

from gauntlet.core.errors import GauntletError

T = TypeVar("T")

_PATIENCE = 32
"""Batches in a row that must fit before a larger one is tried again; doubled each time that this fails."""


class Ledger(Protocol):
    """Books that can take back what work that failed has booked."""

    def entry(self) -> AbstractContextManager[None]:
        """Keep what is booked inside, unless an exception leaves it."""


class BatchSize:
    """How many samples go through a model at once: at most `size`, fewer while memory is short."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = self.current = size
        self.device = device
        self._fitted, self._patience, self._probing = 0, _PATIENCE, False

    def halve(self) -> None:
        """Halve after memory ran out. Raises GauntletError when a single sample does not fit."""
        if self.current == 1:
            raise GauntletError("out of memory with a batch of one image", remedy="use a device with more memory")
        if self._probing:
            self._patience *= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.current //= 2
        self._fitted, self._probing = 0, False

    def fitted(self) -> None:
        """Take note of a batch that fitted; after enough of them a reduced size is doubled."""
        if self.current == self.size:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self.current = min(2 * self.current, self.size)
            self._fitted, self._probing = 0, True

    def parts(self, samples: int, run: Callable[[slice], T], *, ledger: Ledger | None = None) -> Iterator[T]:
        """Call `run` on consecutive slices of so many samples (one empty slice for none), and again where memory ends.

        `ledger` takes back what `run` booked before memory ended.
        """
        done = 0
        while True:
            part = slice(done, min(done + self.current, samples))
            try:
                with ledger.entry() if ledger is not None else nullcontext():
                    result = run(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.halve()
                continue
            self.fitted()
            yield result
            done = part.stop
            if done >= samples:
                return


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, of the accelerator or the host, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)
