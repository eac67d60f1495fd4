"""Copies of buffers (running statistics, vectors of power iterations, counters), to undo what a pass changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class BufferCopies:
    """Copies of all buffers of some modules."""

    def __init__(self, *modules: nn.Module) -> None:
        self._buffers = [
            (owner, name, buffer, None if buffer is None else buffer.clone())
            for module in modules
            for owner in module.modules()
            for name, buffer in owner._buffers.items()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the tensors and their values, whether a module changed them in place or replaced them."""
        for owner, name, buffer, value in self._buffers:
            owner._buffers[name] = buffer
            if buffer is not None and value is not None:
                # Not `buffer` itself: a graph may hold it (a weight that a layer also stores), and torch would take the
                # equal values for a change.
                buffer.data.copy_(value)


@contextmanager
def buffers_restored(module: nn.Module) -> Iterator[None]:
    """Restore a module's buffers on exit."""
    copies = BufferCopies(module)
    try:
        yield
    finally:
        copies.restore()
