"""Optimizers of PyTorch by the name of their class: ``torch.optim:NAdam``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Optimizer


def adapt(name: str) -> Callable[..., Optimizer]:
    """Return a class of `torch.optim`, which is called with the parameters and its options."""
    optimizer: Callable[..., Optimizer] = getattr(torch.optim, name)
    return optimizer
