"""Networks as callers give them: unwrapped where a wrapper only makes them faster, copied, and kept from writing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import InputError, first_line


class ScriptedNetwork(nn.Module):
    """A scripted or traced network inside a plain module, which takes hooks and may be frozen."""

    def __init__(self, network: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.network = network
        self.training = bool(getattr(network, "training", False))

    def forward(self, x: Tensor) -> Any:
        """Map images to what the network returns."""
        return self.network(x)


def usable_network(network: nn.Module) -> nn.Module:
    """Return the network that computes: inside DataParallel or torch.compile, its module; a scripted one is wrapped.

    Their outputs are equal up to rounding; a compiled network would be compiled again for each batch size and dtype.
    """
    while True:
        if isinstance(network, torch.jit.ScriptModule):
            return ScriptedNetwork(network)
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif (inner := _before_compilation(network)) is not None:
            network = inner
        elif getattr(network, "_compiled_call_impl", None) is not None:
            network = copy_network(network)  # A copy is not compiled.
        else:
            break
    if any(_before_compilation(module) is not None for module in network.modules()):
        network = copy_network(network)
        for module in network.modules():
            for name, child in module._modules.items():
                while child is not None and (inner := _before_compilation(child)) is not None:
                    child = module._modules[name] = inner
    return network


def _before_compilation(module: nn.Module) -> nn.Module | None:
    """Return the module that `torch.compile` wrapped; None for any other module."""
    inner = None if isinstance(module, torch.jit.ScriptModule) else module._modules.get("_orig_mod")
    return inner if isinstance(inner, nn.Module) else None


def copy_network(network: nn.Module) -> nn.Module:
    """Copy a network. Raises InputError for one that cannot be copied."""
    try:
        with torch.no_grad():  # A scripted network's parameters would be copied as results of an operation.
            return copy.deepcopy(network)
    except Exception as error:  # a network may refuse in any way
        if is_out_of_memory(error):
            raise
        problem = f"the model cannot be copied ({first_line(error)})"
        raise device_error(error) or InputError(problem, remedy="export it to plain layers first") from error


def frozen_copy(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a usable network to a device and dtype, with parameters that take no gradient."""
    frozen = copy_network(network).to(device, dtype)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return frozen


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer; the CPU if it has none."""
    first = next(network.parameters(), next(network.buffers(), None))
    return torch.device("cpu") if first is None else first.device


def protect_inputs(network: nn.Module) -> Any:
    """Make each pass of a usable network work on a copy of its input; return the hook's handle."""
    return network.register_forward_pre_hook(_copied_inputs)


@contextmanager
def inputs_protected(network: nn.Module) -> Iterator[None]:
    """Make each pass inside work on a copy of its input."""
    handle = protect_inputs(network)
    try:
        yield
    finally:
        handle.remove()


def _copied_inputs(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)
