"""Errors of torch that are about the device and not about the model: memory, determinism, failed kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

import torch
from torch import nn

from gauntlet.core.determinism import CUBLAS_WORKSPACE
from gauntlet.core.errors import GauntletError, first_line, shortened

_MEMORY = (
    "out of memory",  # CUDA, HIP, NCCL ("Cuda failure 2 'out of memory'")
    "can't allocate memory",  # the CPU's allocator
    "not enough memory",
    "_status_alloc_failed",  # cuBLAS, cuDNN, cuSOLVER
    "host_allocation_failed",  # cuDNN
    "valid cudnn algorithm",  # cuDNN found none whose workspace fits
)
_NO_KERNEL = re.compile(r"^(\S+) does not have a deterministic implementation")
_ALLOW = (
    "set `execution: {deterministic: warn}` to run it with a warning, or false to run it without; "
    "in a notebook, torch.use_deterministic_algorithms(True, warn_only=True)"
)
_CUBLAS = "not deterministic because it uses CuBLAS"
_KERNEL = re.compile(r"(?:CUDA|HIP) error: ([^\n]+)")


class NonDeterministicError(GauntletError):
    """An operation without a deterministic kernel, while only deterministic ones are allowed."""

    exit_code = 2


class DeviceError(GauntletError):
    """A failure of the device, after which this process cannot use it again."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory, of the accelerator or the host, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in message for text in _MEMORY)


def device_error(error: BaseException) -> GauntletError | None:
    """Return the error to raise in place of one that is no statement about a model; None for any other error.

    NonDeterministicError has the name of the operation and, for a forward pass, of the layer; DeviceError is a kernel
    that failed. Memory that ran out is for the caller, who may try again with fewer images (`is_out_of_memory`).
    """
    if not isinstance(error, RuntimeError):
        return None
    message = first_line(error)
    if found := _NO_KERNEL.match(message):
        return NonDeterministicError(f"{found[1]}{_layer(error, found[1])} has no deterministic kernel", remedy=_ALLOW)
    if _CUBLAS in message:
        problem = "cuBLAS was used before its workspace was fixed, so it is not deterministic"
        remedy = f"set {CUBLAS_WORKSPACE}=:4096:8 in the environment before the process starts"
        return NonDeterministicError(problem, remedy=remedy)
    found = _KERNEL.search(str(error))
    if found is None and not isinstance(error, torch.AcceleratorError):
        return None
    reason = found[1].strip() if found else message
    problem = f"a kernel failed on the device: {reason}{_layer(error)}"
    remedy = "run it again with CUDA_LAUNCH_BLOCKING=1, or on the CPU, to see which operation"
    return DeviceError(problem, remedy=f"often an index out of range; {remedy}" if "assert" in reason else remedy)


@contextmanager
def device_errors_reported() -> Iterator[None]:
    """Convert the errors of the device that leave the context to errors of one line each."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            problem = f"memory ran out ({first_line(error) or type(error).__name__})"
            raise GauntletError(problem, remedy="use a device with more memory") from error
        if failure := device_error(error):
            raise failure from error
        raise


def _layer(error: BaseException, operation: str = "") -> str:
    """Return the layer that an error concerns, for a message: the innermost one that it passed through.

    A backward pass leaves no layer in the traceback. There, the layers of the networks that the calling functions hold
    are compared with the operation by name: adaptive_avg_pool2d_backward_cuda is one of AdaptiveAvgPool2d.
    """
    held = [frame.f_locals.get(name) for frame, _ in walk_tb(error.__traceback__) for name in ("self", "model")]
    passed = [value for value in held if isinstance(value, nn.Module)]
    if passed:
        return _described(passed[0], [passed[-1]])
    key = operation.replace("_", "").lower()
    for value in held:
        network = getattr(value, "network", None)
        if isinstance(network, nn.Module):
            layers = [layer for layer in network.modules() if key.startswith(_kinds(layer))]
            if layers:
                return _described(network, layers)
    return ""


def _kinds(layer: nn.Module) -> tuple[str, ...]:
    """Return the names of a layer's classes that say what it computes, in lower case."""
    return tuple(kind.__name__.lower() for kind in type(layer).__mro__ if issubclass(kind, nn.Module))


def _described(network: nn.Module, layers: list[nn.Module]) -> str:
    names = {layer: name for name, layer in network.named_modules()}
    found = [f"{names.get(layer, '')} ({type(layer).__name__})".lstrip() for layer in layers]
    return f" in layer{'s' if len(found) > 1 else ''} {shortened(found)}"
