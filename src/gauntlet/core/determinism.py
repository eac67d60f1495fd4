"""Determinism of torch's kernels: the same inputs give the same bytes, or the operation that cannot is named."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
import torch.utils.deterministic

from gauntlet.core.errors import InputError

Deterministic = Literal[True, "warn", False]
"""True: an operation without a deterministic kernel is an error; ``warn``: it runs, with a warning; False: it runs."""

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable with the size of cuBLAS's workspace, which it reads once, when it is first used."""
_FIXED_WORKSPACES = (":4096:8", ":16:8")
"""The sizes with which cuBLAS is deterministic (NVIDIA, cuBLAS library documentation, "Results reproducibility")."""
_THREADS = "OMP_NUM_THREADS"


def set_determinism(mode: Deterministic) -> None:
    """Select deterministic kernels for this process, on every device; call it before the GPU is first used.

    Also on the CPU: there, with several threads, the gradient of an indexed tensor is otherwise summed in any order.
    Raises InputError when the environment fixes a workspace with which cuBLAS is not deterministic.
    """
    if mode is True and os.environ.setdefault(CUBLAS_WORKSPACE, _FIXED_WORKSPACES[0]) not in _FIXED_WORKSPACES:
        problem = f"cuBLAS is not deterministic with {CUBLAS_WORKSPACE}={os.environ[CUBLAS_WORKSPACE]}"
        raise InputError(problem, where="execution.deterministic", remedy=f"unset it, or set {_FIXED_WORKSPACES[0]}")
    # Unlike `use_deterministic_algorithms`, this does not import the compiler, which takes a second.
    torch.set_deterministic_debug_mode({True: "error", "warn": "warn", False: "default"}[mode])
    # Nothing here reads memory that it has not written, so that filling it would only cost time.
    fill: Any = torch.utils.deterministic
    fill.fill_uninitialized_memory = False
    # cuDNN's fastest kernel differs from run to run where it is chosen by measurement.
    torch.backends.cudnn.deterministic = mode is not False
    torch.backends.cudnn.benchmark = mode is False


def set_threads() -> None:
    """Compute with as many threads as the environment asks for, since sums depend on their number by rounding.

    By itself, torch lets MKL reduce that number to the physical cores that it finds, which are not always the same.
    """
    if (threads := os.environ.get(_THREADS, "")).isdecimal() and int(threads) > 0:
        torch.set_num_threads(int(threads))


def determinism_name(mode: Deterministic) -> str:
    """Return a mode as the configuration spells it, for the metadata of files."""
    return str(mode).lower()
