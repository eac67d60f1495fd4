"""Networks with a proven Lipschitz constant, and the proof: a bound multiplied up from the layers' own weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
from gauntlet.learning.models.network import LayerHead, LipschitzClaim, Network

# The bound is computed in float64 from singular values that are good to about 1e-14 of their size.
_ROUNDING = 1 + 1e-12

_NON_EXPANSIVE = (GroupSort2, FullSort, L2NormPool2d, ScaledAvgPool2d, nn.Flatten, nn.Identity)


class LipschitzNetwork(Network):
    """A network whose layers are all plain and bounded; `lipschitz` is computed from the weights it has now."""

    normalization: Normalization
    body: nn.Sequential
    head: LayerHead

    def __init__(
        self,
        *,
        normalization: Normalization,
        body: nn.Sequential,
        last: nn.Module,
        output: Literal["joint", "disjoint"],
    ) -> None:
        super().__init__(normalization=normalization, body=body, head=LayerHead(last))
        self.output: Literal["joint", "disjoint"] = output

    @property
    def lipschitz(self) -> LipschitzClaim:
        """Bound the network in the L2 norm of pixels, from the weights themselves.

        The constant is the product of the layers' bounds, computed in float64 and rounded up; for the ``disjoint``
        output the last layer counts by its largest row. It is never below the constant that the layers are
        constrained to, 1 over the smallest standard deviation of the normalisation, so that a certificate equals the
        published formula. It bounds the exact function; the float32 evaluation has its rounding errors beside it.
        """
        scale = layer_bound(self.normalization)
        last = effective_weight(self.head.layer).double()
        end = float(last.norm(dim=1).max()) if self.output == "disjoint" else _spectral_norm(last)
        return LipschitzClaim(max(scale, scale * bound(self.body) * end * _ROUNDING), "l2", self.output)


def bound(layers: Iterable[nn.Module]) -> float:
    """Multiply the L2 Lipschitz bounds of layers that follow each other."""
    return math.prod(layer_bound(layer) for layer in layers)


def layer_bound(layer: nn.Module) -> float:
    """Bound one layer's Lipschitz constant in the L2 norm.

    A convolution with kernel k x k, stride 1 and zero padding maps each patch by its flattened kernel W, and each
    pixel stands in at most k² patches: its bound is k times the largest singular value of W (Serrurier et al. 2021,
    arXiv:2006.06520, appendix). Raises GauntletError for a layer of which nothing is known.
    """
    if isinstance(layer, Normalization):
        return 1 / float(layer.std.double().min())
    if isinstance(layer, nn.Linear):
        return _spectral_norm(effective_weight(layer).double())
    if isinstance(layer, nn.Conv2d) and layer.stride == (1, 1) and layer.padding_mode == "zeros" and layer.groups == 1:
        height, width = layer.kernel_size
        return math.sqrt(height * width) * _spectral_norm(effective_weight(layer).double().flatten(1))
    if isinstance(layer, _NON_EXPANSIVE):
        return 1.0
    raise GauntletError(f"nothing is known of the Lipschitz constant of {type(layer).__name__}")


def effective_weight(layer: nn.Module) -> Tensor:
    """Give the weight that a layer uses in evaluation, detached; behind a parametrisation training uses another."""
    training = layer.training
    try:
        # In training mode reading a parametrised weight would take a step of its power iteration.
        layer.eval()
        weight = layer.weight
    finally:
        layer.train(training)
    assert isinstance(weight, Tensor)
    return weight.detach()


def _spectral_norm(matrix: Tensor) -> float:
    return float(torch.linalg.svdvals(matrix.cpu())[0])
