"""Seeds of the global generators, for code of others that draws from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python inside, and restore their states afterwards.

    Of several devices, the generators of the CPU and of `device` are seeded.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            reseed_all(seed, device)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def reseed_all(seed: int, device: torch.device | None = None) -> None:
    """Seed the global generators of torch, NumPy and Python."""
    reseed(seed, device)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def reseed(seed: int, device: torch.device | None = None) -> None:
    """Seed torch's global generators of the CPU and of `device`."""
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
