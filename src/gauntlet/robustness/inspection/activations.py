"""The activation functions of a network, and their derivatives, as curves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.registry import ACTIVATIONS, parts_of
from gauntlet.robustness.inspection.arrays import InspectedArray

LIMIT = 4.0
_HALF = 80
"""Points on either side of 0."""


def activations(network: Network, device: torch.device) -> list[InspectedArray]:
    """Draw each distinct activation function once: x in [-4, 4], f(x), and f'(x) by autograd.

    Looked at are modules of torch's activations, of those that are registered, and of the one that the model names.
    Functions that join channels or treat them differently (maxout, sorting, softmax, a slope per channel) are no
    curves, and left out. Where functions of one name differ, as learned ones do, each has its layer in the name.
    """
    # Not by `linspace`, which misses 0 by its rounding: there a derivative may jump.
    x = torch.arange(-_HALF, _HALF + 1, device=device) * (LIMIT / _HALF)
    found: dict[str, dict[bytes, tuple[str, Tensor]]] = {}
    for layer, function in _candidates(network):
        curve = _curve(function, x)
        if curve is not None:
            alike = found.setdefault(type(function).__name__.lower(), {})
            alike.setdefault(curve.numpy().tobytes(), (layer, curve))
    return [
        InspectedArray("activation", name if len(alike) == 1 else f"{name} ({layer})", curve.numpy())
        for name, alike in found.items()
        for layer, curve in alike.values()
    ]


def _candidates(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """List the modules that are activations by their class, with the names of their layers."""
    parts = parts_of(network.description.architecture) if network.description else []
    named = [part.name for registry, part in parts if registry is ACTIVATIONS]
    loaded = (ACTIVATIONS.load(name) for name in {*ACTIVATIONS.catalogue, *named})
    classes = tuple(one for one in loaded if isinstance(one, type))
    for layer, module in network.named_modules():
        if isinstance(module, classes) or type(module).__module__ == nn.ReLU.__module__:
            yield layer, module


def _curve(function: nn.Module, x: Tensor) -> Tensor | None:
    """Give x `(N,)`, f(x) and f'(x) as `(3, N)` on the CPU; None for what does not map each number by itself."""
    leaf = x.clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            # As samples of one channel, and as channels of one sample.
            alone, beside = function(leaf[:, None, None, None]).flatten(), function(leaf[None, :, None, None]).flatten()
    except (RuntimeError, TypeError, ValueError):
        return None
    if alone.shape != x.shape or beside.shape != x.shape or not torch.allclose(alone, beside, equal_nan=True):
        return None
    slope = torch.autograd.grad(alone.sum(), leaf)[0] if alone.requires_grad else torch.zeros_like(x)
    return torch.stack([x, alone.detach(), slope]).cpu()
