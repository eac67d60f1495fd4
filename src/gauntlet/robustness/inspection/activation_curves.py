"""Activation functions of a network, and their derivatives, as curves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.registry import ACTIVATIONS, parts_of
from gauntlet.robustness.inspection.arrays import InspectedArray

LIMIT = 4.0
_HALF = 80
"""Number of points on either side of 0."""


def activation_curves(network: Network, device: torch.device) -> list[InspectedArray]:
    """Return each distinct activation function once: x in [-4, 4], f(x), and f'(x) by autograd.

    Activation functions are modules of torch's activations, registered ones, and the one that the model names.
    Functions that join channels or treat them differently (maxout, sorting, softmax, a slope per channel) have no curve
    and are left out. If functions of one name differ, as learned ones do, each has its layer in the name.
    """
    # `linspace` misses 0 by rounding, and a derivative may jump at 0.
    x = torch.arange(-_HALF, _HALF + 1, device=device) * (LIMIT / _HALF)
    curves: dict[str, dict[bytes, tuple[str, Tensor]]] = {}
    for layer, function, curve in scalar_activations(network, x):
        same_name = curves.setdefault(type(function).__name__.lower(), {})
        same_name.setdefault(curve.numpy().tobytes(), (layer, curve))
    return [
        InspectedArray("activation", name if len(same_name) == 1 else f"{name} ({layer})", curve.numpy())
        for name, same_name in curves.items()
        for layer, curve in same_name.values()
    ]


def scalar_activations(network: Network, x: Tensor) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield the elementwise activations with the names of their layers, and x `(N,)`, f(x) and f'(x) as `(3, N)`."""
    for layer, function in _activation_modules(network):
        curve = _curve(function, x)
        if curve is not None:
            yield layer, function, curve


def _activation_modules(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are activations by their class, with the names of their layers."""
    parts = parts_of(network.description.architecture) if network.description else []
    named = [part.name for registry, part in parts if registry is ACTIVATIONS]
    loaded = (ACTIVATIONS.load(name) for name in {*ACTIVATIONS.catalog, *named})
    classes = tuple(activation for activation in loaded if isinstance(activation, type))
    for layer, module in network.named_modules():
        if isinstance(module, classes) or type(module).__module__ == nn.ReLU.__module__:
            yield layer, module


def _curve(function: nn.Module, x: Tensor) -> Tensor | None:
    """Return x `(N,)`, f(x) and f'(x) as `(3, N)` on the CPU; None for a function that is not elementwise."""
    leaf = x.clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            # Copies: a function may write into its input, which a view of a leaf forbids.
            by_sample = function(leaf[:, None, None, None].clone()).flatten()
            by_channel = function(leaf[None, :, None, None].clone()).flatten()
    except (RuntimeError, TypeError, ValueError):
        return None
    if by_sample.shape != x.shape or by_channel.shape != x.shape:
        return None
    if not torch.allclose(by_sample, by_channel, equal_nan=True):
        return None
    slope = torch.autograd.grad(by_sample.sum(), leaf)[0] if by_sample.requires_grad else torch.zeros_like(x)
    return torch.stack([x, by_sample.detach(), slope]).cpu()
