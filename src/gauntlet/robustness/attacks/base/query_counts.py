"""What an attack costs and what its gradients were like, counted where the model is used, per sample of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

COUNTED = ("forwards", "backwards", "zero_gradients", "nonfinite_gradients")


class Counts:
    """Counters of the samples of one batch, each int64 `(B,)`: `forwards`, `backwards`, and gradients with faults.

    What happens inside ``on(rows)`` is booked on these samples; what an exception interrupts inside ``entry()`` is not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start(0)

    def start(self, samples: int) -> None:
        """Begin a batch of so many samples: counts at zero, row i for sample i."""
        empty = torch.zeros(samples, dtype=torch.int64, device=self.device)
        self.of = {name: empty.clone() for name in COUNTED}
        self.rows = torch.arange(samples, device=self.device)
        self._entry: list[tuple[str, Tensor, Tensor]] | None = None

    @contextmanager
    def entry(self) -> Iterator[None]:
        """Keep what is booked inside, unless an exception leaves it."""
        outer, self._entry = self._entry, []
        try:
            yield
        except BaseException:
            for name, rows, amount in self._entry:
                self.of[name].index_add_(0, rows, -amount)
            raise
        finally:
            self._entry = outer

    @contextmanager
    def on(self, rows: Tensor) -> Iterator[None]:
        """Book what happens inside on these samples: int64 `(A,)`."""
        outer, self.rows = self.rows, rows
        try:
            yield
        finally:
            self.rows = outer

    def forward(self, samples: int, *, times: int = 1) -> None:
        """Book forwards of so many images on the current rows."""
        self._spread("forwards", self.rows, samples, times)

    def passed(self, samples: int, output: Tensor) -> None:
        """Book a forward of so many images, and its backward when that is done."""
        rows = self.rows
        self._spread("forwards", rows, samples, 1)
        if output.requires_grad:
            output.register_hook(lambda _gradient: self._spread("backwards", rows, samples, 1))

    def watch(self) -> Callable[[Tensor], Tensor]:
        """Make a hook for the gradient at images: it counts faults on the current rows; the non-finite become 0."""
        rows = self.rows

        def look(gradient: Tensor) -> Tensor:
            largest = gradient.detach().flatten(1).abs().amax(1)
            self._flag("zero_gradients", rows, largest == 0)
            self._flag("nonfinite_gradients", rows, ~largest.isfinite())
            return gradient.nan_to_num(0.0, 0.0, 0.0)

        return look

    def _spread(self, name: str, rows: Tensor, samples: int, times: int) -> None:
        if len(rows):
            # An attack that drops samples by itself is booked on all of its rows: never too little.
            self._book(name, rows, torch.full_like(rows, times * -(-samples // len(rows))))

    def _flag(self, name: str, rows: Tensor, faulty: Tensor) -> None:
        if len(rows):
            same = len(faulty) == len(rows)
            self._book(name, rows, faulty.to(torch.int64) if same else faulty.any().to(torch.int64).expand(len(rows)))

    def _book(self, name: str, rows: Tensor, amount: Tensor) -> None:
        self.of[name].index_add_(0, rows, amount)
        if self._entry is not None:
            self._entry.append((name, rows, amount))
