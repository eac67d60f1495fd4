"""Regularizers: penalties on a network's weights, added to the loss of a training step; one per file."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.registry import REGULARIZERS, Spec


class Regularizer:
    """Base class of penalties that are added to the training loss from epoch `start_epoch` (counted from 1) on."""

    start_epoch: int = 1

    def penalty(self, network: Network) -> Tensor:
        """Compute the differentiable penalty `()` on the network's current weights."""
        raise NotImplementedError


def build_regularizer(spec: Spec) -> Regularizer:
    """Build a regularizer from its name and options."""
    regularizer: Regularizer = REGULARIZERS.load(spec.name)(**spec.options)
    return regularizer


def weights_and_biases(network: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield weight and bias of every layer that regularizers apply to.

    These are the modules, including a user's own, with a trainable tensor `weight` of two or more dimensions: dense
    and convolutional layers, and the linear parts of elliptical and quadratic ones. The bias is the module's tensor
    `bias`. Of parametrized layers both are the tensors that the layer computes with. The curvature V of elliptical and
    quadratic units is one more weight, without bias, as in the author's code. Normalization layers are excluded, and so
    are other parameters.
    """
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            continue
        if isinstance(module, SecondOrder) and module.curvature.requires_grad:
            yield module.curvature, None
        weight = _trainable(module, "weight")
        if weight is not None and weight.ndim >= 2:
            yield weight, _trainable(module, "bias")


def sum_penalties(penalties: Iterator[Tensor]) -> Tensor:
    """Return the sum of scalars; 0 for none."""
    values = list(penalties)
    return torch.stack(values).sum() if values else torch.zeros(())


def _trainable(module: nn.Module, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    return value if isinstance(value, Tensor) and value.requires_grad else None
