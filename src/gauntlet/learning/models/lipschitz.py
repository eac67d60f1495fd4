"""Networks with a proven Lipschitz constant: the product of bounds computed from the layers' weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.layers.batch_lip_norm import CenteredScale, is_batch_lip_norm, settle
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
from gauntlet.learning.models.layers.residual import ResidualBlock
from gauntlet.learning.models.network import LayerHead, LipschitzClaim, Network

# The bound is computed in float64 from singular values with a relative error of about 1e-14.
_ROUNDING = 1 + 1e-12

_NON_EXPANSIVE = (GroupSort2, FullSort, L2NormPool2d, ScaledAvgPool2d, nn.Flatten, nn.Identity)


class LipschitzNetwork(Network):
    """Network of plain layers with known Lipschitz bounds; `lipschitz` is computed from its current weights.

    `constrained_to` is the constant that training keeps the layers to, without the normalization; 0 if there is none.
    """

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
        constrained_to: float = 1.0,
    ) -> None:
        super().__init__(normalization=normalization, body=body, head=LayerHead(last))
        self.output: Literal["joint", "disjoint"] = output
        self.constrained_to = constrained_to

    @property
    def lipschitz(self) -> LipschitzClaim:
        """Lipschitz constant in the L2 norm of pixels, computed from the weights.

        The constant is the product of the layers' bounds, computed in float64 and rounded up; for a ``disjoint``
        output the last layer's bound is its largest row norm. It is at least the constant that the layers are
        `constrained_to` over the smallest standard deviation of the normalization, so that certificates equal the
        published formula. It bounds the exact function, not the rounding errors of its float32 evaluation.
        """
        scale = layer_bound(self.normalization)
        last = effective_weight(self.head.layer).double()
        last_bound = float(last.norm(dim=1).max()) if self.output == "disjoint" else _spectral_norm(last)
        constant = max(self.constrained_to, bound(self.body) * last_bound * _ROUNDING)
        return LipschitzClaim(scale * constant, "l2", self.output)


def bound(layers: Iterable[nn.Module]) -> float:
    """Return the product of the L2 Lipschitz bounds of consecutive layers."""
    return math.prod(layer_bound(layer) for layer in layers)


def layer_bound(layer: nn.Module) -> float:
    """Return a bound of a layer's Lipschitz constant in the L2 norm.

    A convolution with kernel k x k, stride 1 and zero padding maps each patch by its flattened kernel W, and each
    pixel is in at most k² patches: its bound is k times the largest singular value of W (Serrurier et al. 2021,
    arXiv:2006.06520, appendix). Raises GauntletError for a layer without a known bound.
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
    if isinstance(layer, CenteredScale):
        return abs(float(layer.scale.double()))
    if is_batch_lip_norm(layer):
        return layer_bound(settle(layer))
    if isinstance(layer, ResidualBlock):
        return layer.share + (1 - layer.share) * bound(layer.layers)
    raise GauntletError(f"no Lipschitz bound is known for {type(layer).__name__}")


def effective_weight(layer: nn.Module) -> Tensor:
    """Return the detached weight that a layer uses in evaluation; parametrized layers use another one in training."""
    training = layer.training
    try:
        # In training mode reading a parametrized weight would advance its power iteration.
        layer.eval()
        weight = layer.weight
    finally:
        layer.train(training)
    assert isinstance(weight, Tensor)
    return weight.detach()


def _spectral_norm(matrix: Tensor) -> float:
    return float(torch.linalg.svdvals(matrix.cpu())[0])
