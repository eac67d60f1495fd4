"""Share of a GPU's memory that a process may use, where several processes compute on one GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping

SHARE_VARIABLE = "GAUNTLET_CELLS_PER_GPU"
"""Holds the number of cells that share the GPU of this process."""


def cells_on_gpu(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that share this process's GPU."""
    text = environ.get(SHARE_VARIABLE, "1")
    return max(1, int(text)) if text.isdecimal() else 1
