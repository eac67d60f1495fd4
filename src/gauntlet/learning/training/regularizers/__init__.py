"""Regularisers: penalties on a network's weights, added to the loss of a training step; one a file."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.registry import REGULARIZERS, Spec


class Regularizer:
    """A penalty that is added to the training loss from epoch `start_epoch` (counted from 1) on."""

    start_epoch: int = 1

    def penalty(self, network: Network) -> Tensor:
        """Give the penalty on the network's present weights, `()`, with its gradient."""
        raise NotImplementedError


def build_regularizer(spec: Spec) -> Regularizer:
    """Load a regulariser and give it its options."""
    regularizer: Regularizer = REGULARIZERS.load(spec.name)(**spec.options)
    return regularizer


def weights_and_biases(network: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Give weight and bias of every layer that regularisers are about.

    A layer is any module, a user's own too, with a tensor `weight` of two or more dimensions that is trained: dense
    and convolutional layers, the linear part of elliptical and quadratic ones. Its bias is its own tensor `bias`.
    Behind a parametrisation both are the tensors that the layer computes with. Normalisation layers do not count, and
    neither do other parameters, such as an elliptical unit's second weight.
    """
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            continue
        weight = _trained(module, "weight")
        if weight is not None and weight.ndim >= 2:
            yield weight, _trained(module, "bias")


def sum_penalties(parts: Iterator[Tensor]) -> Tensor:
    """Add up scalars; 0 where there is none."""
    found = list(parts)
    return torch.stack(found).sum() if found else torch.zeros(())


def _trained(module: nn.Module, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    return value if isinstance(value, Tensor) and value.requires_grad else None
