"""Forwards, backwards and faulty gradients, counted per sample where the model is queried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

COUNTERS = ("forwards", "backwards", "zero_gradients", "nonfinite_gradients")


class QueryCounts:
    """Counters of the samples of one batch: `totals` maps each of COUNTERS to int64 `(B,)`.

    Queries inside ``subset(rows)`` count for these samples only. Queries inside ``transaction()`` that an exception
    interrupts do not count.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start(0)

    def start(self, samples: int) -> None:
        """Set all counters to zero for a new batch of this size, all of whose samples are active."""
        zeros = torch.zeros(samples + 1, dtype=torch.int64, device=self.device)
        # The last entry counts for images that are computed in vain, and belongs to no sample.
        self._entries = {name: zeros.clone() for name in COUNTERS}
        self.totals = {name: entries[:-1] for name, entries in self._entries.items()}
        self.active = torch.arange(samples, device=self.device)
        self._entry: list[tuple[str, Tensor, Tensor]] | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Undo what was counted inside when an exception leaves it."""
        outer, self._entry = self._entry, []
        try:
            yield
        except BaseException:
            for name, samples, amount in self._entry:
                self._entries[name].index_add_(0, samples, -amount)
            raise
        finally:
            self._entry = outer

    @contextmanager
    def subset(self, rows: Tensor | slice, counted: Tensor | None = None) -> Iterator[None]:
        """Count for a part of the active samples: `rows` are indices into them, int64 `(A,)`, or a slice.

        Of these, only those in `counted`, bool `(A,)`, count, if it is given.
        """
        outer, self.active = self.active, self.active[rows]
        if counted is not None:
            self.active = torch.where(counted, self.active, len(self.totals[COUNTERS[0]]))
        try:
            yield
        finally:
            self.active = outer

    def add_forwards(self, images: int, *, times: int = 1) -> None:
        """Count `times` forwards of this many images for the active samples."""
        self._add_evenly("forwards", self.active, images, times)

    def add_pass(self, images: int, outputs: Tensor) -> None:
        """Count a forward of this many images now, and its backward when autograd runs it."""
        active = self.active
        self._add_evenly("forwards", active, images, 1)
        if outputs.requires_grad:
            outputs.register_hook(lambda _gradient: self._add_evenly("backwards", active, images, 1))

    def gradient_hook(self) -> Callable[[Tensor], Tensor]:
        """Build a hook for the gradient at images: it counts faulty ones and sets entries that are not finite to 0."""
        active = self.active

        def check(gradient: Tensor) -> Tensor:
            largest = gradient.detach().flatten(1).abs().amax(1)
            self._add_faults("zero_gradients", active, largest == 0)
            self._add_faults("nonfinite_gradients", active, ~largest.isfinite())
            return gradient.nan_to_num(0.0, 0.0, 0.0)

        return check

    def _add_evenly(self, name: str, samples: Tensor, images: int, times: int) -> None:
        if len(samples):
            # Rounded up: an attack that drops samples by itself counts for all of its samples, never too little.
            self._add(name, samples, torch.full_like(samples, times * -(-images // len(samples))))

    def _add_faults(self, name: str, samples: Tensor, faulty: Tensor) -> None:
        if len(samples):
            if len(faulty) != len(samples):
                faulty = faulty.any().expand(len(samples))
            self._add(name, samples, faulty.to(torch.int64))

    def _add(self, name: str, samples: Tensor, amount: Tensor) -> None:
        self._entries[name].index_add_(0, samples, amount)
        if self._entry is not None:
            self._entry.append((name, samples, amount))
