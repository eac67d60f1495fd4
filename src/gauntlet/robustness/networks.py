"""Networks as callers give them: unwrapped where a wrapper only makes them faster, copied, and kept from writing.

Also the memory format of the images that they get.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import InputError, first_line
from gauntlet.core.memory_format import set_memory_format
from gauntlet.core.randomness import uniform
from gauntlet.core.recurrent import enable_recurrent_gradients
from gauntlet.core.seeding import seeded
from gauntlet.learning.models.outputs import named_logits

Forward = Callable[[Tensor], Tensor]
"""Map from images `(B, C, H, W)` to outputs `(B, K)`."""

_SAME_OUTPUTS = 1e-4
"""Relative change by which rounding may change outputs between memory formats (`_agree`)."""


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
    """Copy a usable network to a device and dtype, with gradients of images in evaluation mode, not of parameters.

    The copy returns the logits alone where the network names them among other outputs.
    """
    frozen = copy_network(network).to(device, dtype)
    frozen.register_forward_hook(lambda _module, _inputs, outputs: named_logits(outputs))
    enable_recurrent_gradients(frozen)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    return frozen


def offered_surrogates(network: nn.Module) -> Mapping[str, Forward]:
    """Return the surrogates that a network offers, by name; none where `surrogates` is something of its own."""
    offered = getattr(network, "surrogates", None)
    return offered if isinstance(offered, Mapping) else {}


def adaptive_pairs(network: nn.Module) -> Sequence[tuple[str, str]]:
    """Return the pairs of surrogate and loss that suit a network, best first: by default its logits and the margin.

    A network may have something else of this name, such as a layer of adaptive pooling.
    """
    pairs = getattr(network, "adaptive", None)
    return pairs if isinstance(pairs, list | tuple) and pairs else (("logits", "margin"),)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer; the CPU if it has none."""
    first = next(network.parameters(), next(network.buffers(), None))
    return torch.device("cpu") if first is None else first.device


class InputFormat:
    """Memory format of the images that networks get: channels last, or contiguous where channels last does harm.

    Convolutions and poolings on a CPU take half the time in channels last, also with the parameters as they are. A
    network whose outputs for noise change with the format (it reads strides, say), or which takes views that channels
    last forbids, gets contiguous images. The parameters of `copies`, networks that belong to the caller, have the
    format of the images.
    """

    def __init__(
        self, preferred: torch.memory_format = torch.channels_last, *, copies: Sequence[nn.Module] = ()
    ) -> None:
        self._copies, self._preferred = copies, preferred
        self._compared = preferred == torch.contiguous_format
        self._choose(preferred)

    def copied(self, x: Tensor) -> Tensor:
        """Return a copy of x in this format, for a network that may write into its input."""
        # A clone has the strides of the format also for images of one channel, where `contiguous` changes nothing.
        return x.clone(memory_format=self.current) if x.dim() == 4 else x.clone()

    def is_refused(self, error: Exception) -> bool:
        """Return whether an error may come from this format, so that contiguous images are worth a try."""
        return self.current != torch.contiguous_format and "view size is not compatible" in str(error)

    def apply(self, forward: Forward, x: Tensor) -> Tensor:
        """Return the outputs for a copy of images x `(B, C, H, W)` in this format. Raises what `forward` raises."""
        try:
            return forward(self.copied(x))
        except RuntimeError as error:
            if not self.is_refused(error):
                raise
        self._choose(torch.contiguous_format)
        return forward(self.copied(x))

    def compare(self, run: Forward, x: Tensor) -> None:
        """Keep the format only if both give the same outputs for two images of noise, of the shape and dtype of x.

        `run` passes images through `apply`. Only the first call compares. Generators are left as they are.
        """
        if self._compared or x.dim() != 4:
            return
        # Hashed, not drawn: the caller may watch for random operations.
        noise = uniform(torch.arange(2, device=x.device), x.shape[1:], stream="formats", dtype=x.dtype)
        try:
            expected = self._outputs_in(torch.contiguous_format, run, noise)
            found = self._outputs_in(self._preferred, run, noise)
        except Exception:  # memory ran out: the next call compares
            self._choose(self._preferred)
            raise
        self._compared = True
        # If expected is None, the pass that follows reports what the network refuses.
        if expected is not None and (found is None or not _agree(found, expected)):
            self._choose(torch.contiguous_format)

    def _outputs_in(self, memory_format: torch.memory_format, run: Forward, noise: Tensor) -> Tensor | None:
        self._choose(memory_format)
        try:
            with torch.no_grad(), float32_arithmetic(), seeded(0, noise.device):
                return run(noise).nan_to_num().flatten(1)
        except Exception as error:  # a network may refuse in any way
            if is_out_of_memory(error):
                raise
        return None

    def _choose(self, memory_format: torch.memory_format) -> None:
        self.current = memory_format
        for network in self._copies:
            set_memory_format(network, memory_format)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Return whether outputs `(B, K)` have equal predictions, and differ by no more than rounding explains.

    Rounding changes an output in proportion to itself or, where it is a small difference of larger terms, to the two
    largest outputs of its image, between which the prediction is decided. Outputs far below these, such as those of
    masked classes, set no scale for the others.
    """
    if found.shape != expected.shape:
        return False
    decisive = expected.topk(min(2, expected.shape[1])).values.abs().amax(1, keepdim=True)
    tolerance = _SAME_OUTPUTS * torch.maximum(expected.abs(), decisive)
    same_predictions = torch.equal(found.argmax(1), expected.argmax(1))
    return same_predictions and bool(((found - expected).abs() <= tolerance).all())


def protect_inputs(network: nn.Module, images: InputFormat | None = None) -> Any:
    """Make each pass of a usable network work on a copy of its input, in a format; return the hook's handle."""
    copied = InputFormat(torch.preserve_format).copied if images is None else images.copied

    def hook(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(copied(value) if isinstance(value, Tensor) else value for value in inputs)

    return network.register_forward_pre_hook(hook)


@contextmanager
def inputs_protected(network: nn.Module, images: InputFormat | None = None) -> Iterator[None]:
    """Make each pass inside work on a copy of its input, in a format."""
    handle = protect_inputs(network, images)
    try:
        yield
    finally:
        handle.remove()
